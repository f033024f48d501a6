"""All datasets at once: how many are cached and how, which are valid, what the catalogue holds."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from engine.preview.faults import PreviewFault
from engine.preview.reports import CACHE_STATUSES
from engine.preview.states import folder_of
from engine.preview.tasks import ScannedDataset
from handlers.http.routes import Route
from handlers.preview.admission import LIST_KEY, SURFACE, who
from handlers.preview.answers import report
from handlers.preview.errors import stored_error
from handlers.preview.keys import OPTIONS, REPORTS
from handlers.preview.shapes import CacheAnswer, CacheReportsAnswer, CardsAnswer, CountsAnswer, ValidAnswer

Json = dict[str, Any]

SUMS = ("valid", "error", "missing")
# Keys of a card as older clients know them.
OLDER_TAGS = {"language": "languages", "license": "licenses"}


def created_at() -> str:
    """The present time as answers show it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_word(request: web.Request, status: str) -> str:
    """A status as items show it."""
    return status.upper() if request.app[OPTIONS].preview_status_case == "upper" else status


async def cache(request: web.Request) -> web.Response:
    """How many datasets and splits are in the cache, by status."""
    await who(request)
    counts = await request.app[REPORTS].cache()
    value = {**counts, "created_at": created_at()}
    return await report(request, value, request.app[OPTIONS].max_age_short_seconds, depends_on_caller=False)


async def cache_reports(request: web.Request) -> web.Response:
    """The same with names and errors."""
    reports = request.app[REPORTS]
    cached = await reports.datasets(await who(request))
    folders = {one.name: folder_of(one) for one in cached}
    datasets: dict[str, list[Json]] = {status: [] for status in CACHE_STATUSES}
    splits: dict[str, list[Json]] = {status: [] for status in CACHE_STATUSES}
    for one in cached:
        datasets[one.status].append({"dataset": one.name, **_state(request, one.status, one.error, folders[one.name])})
    for split in await reports.splits(cached):
        names = {"dataset": split.dataset, "config": split.config, "split": split.split or None}
        splits[split.status].append({**names, **_state(request, split.status, split.error, folders[split.dataset])})
    value = {"datasets": datasets, "splits": splits, "created_at": created_at()}
    return await report(request, value, request.app[OPTIONS].max_age_short_seconds, depends_on_caller=True)


def _state(request: web.Request, status: str, error: str | None, folder: str) -> Json:
    """Status and error of an item; only those that are errors now show one."""
    shown = stored_error(request, PreviewFault.read(error), folder) if error and status == "error" else None
    return {"status": status_word(request, status), "error": shown}


async def valid(request: web.Request) -> web.Response:
    """The datasets that have rows to show, in the order in which they were first cached."""
    names = await request.app[REPORTS].valid(await who(request))
    value = {"valid": names, "created_at": created_at()}
    return await report(request, value, request.app[OPTIONS].max_age_long_seconds, depends_on_caller=True)


async def count_by_cache_status(request: web.Request) -> web.Response:
    """How many datasets of the catalogue are valid, in error or missing; those without an org are canonical."""
    await who(request)
    counts = {sort: dict.fromkeys(SUMS, 0) for sort in ("canonical", "community")}
    for name, state in (await request.app[REPORTS].by_cache_status()).items():
        counts["community" if "/" in name else "canonical"][state] += 1
    value = {**counts, "created_at": created_at()}
    return await report(request, value, request.app[OPTIONS].max_age_long_seconds, depends_on_caller=False)


async def hf_datasets(request: web.Request) -> web.Response:
    """The datasets of the catalogue with what their cards say, by name."""
    reports = request.app[REPORTS]
    found = await reports.found(await who(request))
    downloads = await reports.downloads()
    value = {"datasets": [_card(one, downloads.get(one.name, 0)) for one in found]}
    return await report(request, value, request.app[OPTIONS].max_age_long_seconds, depends_on_caller=True)


def _card(found: ScannedDataset, downloads: int) -> Json:
    card = found.card or {}
    return {
        "id": found.name,
        "tags": list(_tags(card.get("tags", ()))),
        "citation": card.get("citation"),
        "description": card.get("description"),
        "paperswithcode_id": card.get("paperswithcode_id"),
        "downloads": downloads,
    }


def _tags(tags: Iterable[str]) -> Iterable[str]:
    for tag in tags:
        key, colon, value = tag.partition(":")
        yield f"{OLDER_TAGS.get(key, key)}{colon}{value}"


def _list_route(path: str, handler: Any, summary: str, reply: object) -> Route:
    answers = {200: "the report", 401: "the credentials are wrong"}
    return Route(
        method="GET", path=path, handler=handler, surface=SURFACE, summary=summary, key=LIST_KEY, answers=answers, reply=reply
    )


ROUTES = (
    _list_route("/cache", cache, "How many datasets and splits are cached, by status", CacheAnswer),
    _list_route("/cache-reports", cache_reports, "Cached datasets and splits, by status, with their errors", CacheReportsAnswer),
    _list_route("/valid", valid, "The datasets that have rows to show", ValidAnswer),
    _list_route("/hf_datasets", hf_datasets, "The datasets of the catalogue, with what their cards say", CardsAnswer),
    _list_route(
        "/hf-datasets-count-by-cache-status",
        count_by_cache_status,
        "Datasets of the catalogue that are valid, in error or missing",
        CountsAnswer,
    ),
)
