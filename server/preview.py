"""Preview, set up from the settings: its folders and kinds of jobs, which a worker has too, and in the server all the rest."""

import contextlib
from collections.abc import Mapping

from aiohttp import web

from engine import metrics
from engine.datasets import Lender
from engine.jobs import JobKind
from engine.preview.catalogue import Access, Catalogue
from engine.preview.damage import ask_for_damaged
from engine.preview.hub import Hub, HubOptions, Lookups
from engine.preview.kinds import PreviewKinds
from engine.preview.lending import PreparedDatasets
from engine.preview.pages import Pages
from engine.preview.preview import Preview
from engine.preview.queue import Hooks
from engine.preview.reports import Reports
from engine.preview.states import States
from engine.preview.sweeping import Sweeper
from engine.preview.tasks import PreviewFolders, PreviewLimits
from engine.preview.watching import Watch
from engine.store import Store
from handlers.datasets.admission import DATASETS
from handlers.http import keys
from handlers.preview.keys import FOLDERS, HOOKS, OPTIONS, PAGES, PREVIEW, REPORTS, AnswerOptions
from handlers.streaming.keys import PREDICTIONS
from server.config import Settings


def preview_folders(settings: Settings) -> PreviewFolders:
    data_dir = settings.data_dir.resolve()
    roots = (data_dir / "datasets", *(root.resolve() for root in settings.datasets_dir))
    assets = (settings.assets_dir or data_dir / "assets").resolve()
    return PreviewFolders(roots, assets, data_dir / "prepared", data_dir / "hub")


def preview_kinds(store: Store, settings: Settings) -> Mapping[str, JobKind]:
    """The kinds of jobs that preview has, by name."""
    folders = preview_folders(settings)
    return PreviewKinds(store, folders, settings.part(PreviewLimits), Hub(settings.part(HubOptions), folders)).kinds()


async def open_preview(app: web.Application, store: Store, settings: Settings, stack: contextlib.AsyncExitStack) -> Lender:
    """Open preview in the server, and start what runs beside its requests. The jobs of the server must be there.

    Gives what queries may read of it.
    """
    engine, folders = app[keys.ENGINE], preview_folders(settings)
    lookups = Lookups(Hub(settings.part(HubOptions), folders), engine.pool("hub"))
    catalogue = Catalogue(engine.pool("jobs"), folders, lookups)
    access = Access(app[DATASETS], catalogue, shows_private=settings.datasets_enable_private is not False)
    states = States(store, app[keys.JOBS], catalogue, access, is_on_demand=settings.preview_on_demand)
    preview = Preview(engine, states)
    watch = Watch(engine, preview, queues_changed=settings.datasets_watch)
    stack.push_async_callback(watch.close)
    sweeper = Sweeper(store, folders, preview.holds)

    def changed(name: str) -> None:
        preview.changed(name)
        sweeper.wake()

    store.on_preview_change = changed
    app[PREVIEW], app[FOLDERS], app[OPTIONS] = preview, folders, settings.part(AnswerOptions)
    app[REPORTS], app[HOOKS] = Reports(preview), Hooks(preview)
    app[PAGES] = Pages(preview, engine, folders, settings.part(PreviewLimits), app[PREDICTIONS].predict_lines)
    stack.enter_context(metrics.showing(app[REPORTS].levels))
    await ask_for_damaged(store, app[keys.JOBS])
    watch.start()
    engine.spawn(sweeper.run(), "sweep files of previews")
    return PreparedDatasets(preview)
