"""Attributions: what each cause of a fitted model brought between two dates, counted by a job and laid down in the catalogue.

Knows no HTTP and no numbers.
"""

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ujson

from engine.errors import EngineError
from engine.jobs import JobKind, Work
from engine.projects import files
from engine.projects.asking import ask, short_task
from engine.projects.attempts import Attempts
from engine.projects.codes import REFUSALS
from engine.projects.datasets import ProjectDatasets, title_of
from engine.projects.files import DatasetListener, ProjectFolders
from engine.projects.fitting import merged
from engine.projects.models import Models, check_values
from engine.projects.objects import Object, ObjectKind, Objects, Project, encoded
from engine.projects.work import Settled, object_kind, task_of
from engine.replicas.blocks import Answer
from engine.replicas.pool import Pool
from engine.store import ObjectName, Transaction

KIND: ObjectKind = "attribution"
CHECK_ATTRIBUTION, EFFECTS = short_task("check_attribution"), short_task("effects")
DEFAULT_SAMPLES, MAX_SAMPLES = 100, 400


@dataclass(frozen=True, slots=True)
class AttributionRequest:
    """model and dataset are numbers in the project; dates are written as 2018-01-07, the last one is included."""

    model: int
    dataset: int
    start_date: str
    end_date: str
    samples: int
    created_by: str


class Attributions:
    """The attributions of all projects.

    queries    the pool whose replicas look at requests, and read tables
    limit_s    how long the job may take
    listener   is told of each dataset that is there from now on, or is gone
    """

    def __init__(
        self,
        models: Models,
        datasets: ProjectDatasets,
        folders: ProjectFolders,
        queries: Pool,
        listener: DatasetListener,
        *,
        limit_s: float,
    ) -> None:
        self._objects: Objects = models.objects
        self._models = models
        self._datasets = datasets
        self._folders = folders
        self._attempts = Attempts(folders)
        self._queries = queries
        self._listener = listener
        self._task = task_of("attribute", limit_s=limit_s)

    async def create(self, project: Project, wanted: AttributionRequest) -> Object:
        """A new attribution.

        raises  EngineError `bad_parameter`, `bad_range`, `unknown_model`, `unknown_dataset`, `not_complete`, `source_missing`,
                `unknown_combination`, `too_many_jobs`, `quota_exceeded`
        """
        check_values("", {"samples": (1 <= wanted.samples <= MAX_SAMPLES, f"from 1 to {MAX_SAMPLES}")})
        if wanted.start_date > wanted.end_date:
            raise EngineError(REFUSALS["bad_range"], "start_date is after end_date.")
        model = await self._models.complete(project, wanted.model)
        asked = await self._asked(project, model, wanted.dataset, wanted.start_date, wanted.end_date)
        await self._objects.check_room(project.team)
        checked = await ask(self._queries, CHECK_ATTRIBUTION, asked)
        request = {name: getattr(wanted, name) for name in ("model", "dataset", "start_date", "end_date", "samples")}
        request |= {"combination": model.request["combination"], "graph": model.request["graph"]}
        request["warnings"] = checked.header["warnings"]
        uses: list[tuple[ObjectKind, int]] = [("model", wanted.model), ("dataset", wanted.dataset)]
        return await self._objects.create(project, KIND, request, created_by=wanted.created_by, uses=uses)

    async def _asked(self, project: Project, model: Object, dataset: int, start_date: str, end_date: str) -> dict[str, Any]:
        folder, found = self._models.folder_of(model), await self._datasets.files_of(project, dataset)
        return {"model": str(folder), "files": found, "start_date": start_date, "end_date": end_date}

    # The job

    def kind(self) -> JobKind:
        return object_kind(self._objects, self._task.name, "slow", self._ask, self._settled, self._attempts.discard)

    async def _ask(self, found: Object) -> Work:
        request, project = found.request, found.project
        model = await self._models.complete(project, request["model"])
        asked = await self._asked(project, model, request["dataset"], request["start_date"], request["end_date"])
        folder = await self._attempts.begin(found)
        return Work(self._task, {**asked, "samples": request["samples"], "folder": str(folder), "title": title_of(found.name)})

    async def _settled(self, transaction: Transaction, found: Object, answer: Answer) -> Settled:
        await self._attempts.put(found)
        transaction.after_commit(functools.partial(self._listener.made, title_of(found.name)))
        about = {name: answer.header[name] for name in ("frequency", "target_metric")}
        warnings = merged(found.request["warnings"], answer.header["warnings"])
        return Settled(str(answer.payload, "utf-8"), warnings, encoded(about))

    # Found

    async def complete(self, project: Project, iid: int) -> Object:
        """EngineError `unknown_attribution`, `not_complete`."""
        return (await self._objects.get(project, KIND, iid)).require_complete()

    def folder_of(self, found: Object) -> Path:
        return self._folders.dataset(found.name)

    async def about(self, found: Object) -> dict[str, str]:
        """Its frequency and its target_metric."""
        about: dict[str, str] = ujson.loads(await self._objects.store.read_extra(found.name) or "{}")
        return about

    async def effects(self, project: Project, iid: int, node: str | None, form: str) -> bytes:
        """The table by date, perhaps of one node, as `json` or `csv`. EngineError `not_complete`; `bad_field` for another node."""
        found = await self.complete(project, iid)
        asked = {"attribution": str(self.folder_of(found)), "node": node, "format": form}
        return bytes((await ask(self._queries, EFFECTS, asked)).payload)

    async def remove(self, name: ObjectName, request: Mapping[str, Any]) -> None:
        """Remove the files of an attribution. OSError when some stay; StoreError."""
        await asyncio.to_thread(files.remove_dataset, self._folders.dataset(name))
        await self._listener.removed(title_of(name))
