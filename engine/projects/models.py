"""Models of projects: built from a graph or refitted on other data by a job, published as any model, and chosen by a person.

What a replica can refuse at once it refuses before the model has a number. Knows no HTTP and no numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ujson

from engine.errors import ListedError
from engine.projects.asking import ask, short_task
from engine.projects.codes import BAD_FIELD, BAD_PARAMETER
from engine.projects.datasets import ProjectDatasets
from engine.projects.files import made_name
from engine.projects.graphs import Graph, Graphs
from engine.projects.objects import Asked, Object, ObjectKind, Objects, Project, encoded
from engine.projects.publishing import KIND
from engine.replicas.pool import Pool
from engine.repository.index import Repository
from engine.repository.publishing import files_missing
from engine.store import Transaction

CHECK_REFIT = short_task("check_refit")
INFERENCES = ("hmc", "vi", "map")
MAX_EPOCHS, MAX_SAMPLES, MAX_SEED = 20_000, 256, 2**63 - 1


@dataclass(frozen=True, slots=True)
class FitParameters:
    """How a model is fitted, as requests and answers name it."""

    epochs: int = 500
    learning_rate: float = 0.005
    samples: int = 8
    inference: str = "hmc"
    seed: int = 0

    def check(self) -> None:
        """ListedError `bad_parameter`."""
        allowed = {
            "epochs": (0 <= self.epochs <= MAX_EPOCHS, f"from 0 to {MAX_EPOCHS}"),
            "learning_rate": (0 < self.learning_rate <= 1, "above 0 and at most 1"),
            "samples": (1 <= self.samples <= MAX_SAMPLES, f"from 1 to {MAX_SAMPLES}"),
            "inference": (self.inference in INFERENCES, f"one of {', '.join(INFERENCES)}"),
            "seed": (0 <= self.seed <= MAX_SEED, f"from 0 to {MAX_SEED}"),
        }
        check_values("model_param", allowed)


def check_values(where: str, allowed: dict[str, tuple[bool, str]]) -> None:
    """ListedError `bad_parameter` for the fields that are not as they must be.

    allowed  field -> whether it is, and what it must be
    """
    details = [
        {"Code": str(BAD_PARAMETER), "Column": f"{where}.{name}" if where else name, "Message": f"It must be {what}."}
        for name, (is_allowed, what) in allowed.items()
        if not is_allowed
    ]
    if details:
        text = "; ".join(f"{detail['Column']}: {detail['Message']}" for detail in details)
        raise ListedError(BAD_PARAMETER, text, details)


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What a build and a refit have in common.

    dataset   number of a dataset of the project
    activate  the model becomes active when its fit succeeds and converges
    """

    dataset: int
    train_dates: Sequence[str]
    eval_dates: Sequence[str]
    activate: bool
    parameters: FitParameters
    created_by: str

    def as_stored(self) -> dict[str, Any]:
        names = FitParameters.__dataclass_fields__
        return {
            "dataset": self.dataset,
            "train_dates": sorted(set(self.train_dates)),
            "eval_dates": sorted(set(self.eval_dates)),
            "activate": self.activate,
            "parameters": {name: getattr(self.parameters, name) for name in names},
        }


class Models:
    """The models of all projects.

    max_parameters  that a graph may have
    """

    def __init__(
        self,
        objects: Objects,
        datasets: ProjectDatasets,
        graphs: Graphs,
        repository: Repository,
        queries: Pool,
        *,
        max_parameters: int,
    ) -> None:
        self.objects = objects
        self._datasets = datasets
        self._graphs = graphs
        self._repository = repository
        self._queries = queries
        self._max_parameters = max_parameters

    async def build(self, project: Project, combination: list[str], graph: Graph | None, wanted: FitRequest) -> Object:
        """A new model of a graph, or of the default one.

        combination  [country, region, grouping]
        raises       EngineError `bad_parameter`, `unknown_dataset`, `not_complete`, `too_many_jobs`, `quota_exceeded`, and what
                     `check_graph` refuses
        """
        wanted.parameters.check()
        files = await self._datasets.files_of(project, wanted.dataset)
        await self.objects.check_room(project.team)
        asked = wanted.as_stored()
        dates = {name: asked[name] for name in ("train_dates", "eval_dates")}
        checked = await self._graphs.checked(
            {"files": files, "combination": combination, "graph": graph, "max_parameters": self._max_parameters, **dates}
        )

        async def request(transaction: Transaction) -> dict[str, Any]:
            kept = await self._graphs.keep(transaction, project, checked.graph, checked.instance)
            about = {"kind": "build", "combination": combination, "graph": kept.graph, "instance": kept.instance, "parent": None}
            return {**asked, **about, "warnings": checked.warnings}

        return await self._create(project, wanted, request, uses=[("dataset", wanted.dataset)])

    async def refit(self, project: Project, parent: int, wanted: FitRequest) -> Object:
        """A new model with the instance and the scales of another.

        raises  EngineError `bad_parameter`, `unknown_model`, `unknown_dataset`, `not_complete`, `too_many_jobs`,
                `quota_exceeded`, and what `check_refit` refuses
        """
        wanted.parameters.check()
        found = await self.complete(project, parent)
        files = await self._datasets.files_of(project, wanted.dataset)
        await self.objects.check_room(project.team)
        asked = wanted.as_stored()
        dates = {name: asked[name] for name in ("train_dates", "eval_dates")}
        answer = await ask(self._queries, CHECK_REFIT, {"files": files, "model": str(self.folder_of(found)), **dates})
        same = {name: found.request[name] for name in ("combination", "graph", "instance")}
        request = {**asked, **same, "kind": "refit", "parent": parent, "warnings": answer.header["warnings"]}
        return await self._create(project, wanted, request, uses=[("dataset", wanted.dataset), (KIND, parent)])

    async def _create(self, project: Project, wanted: FitRequest, request: Asked, *, uses: list[tuple[ObjectKind, int]]) -> Object:
        return await self.objects.create(project, KIND, request, created_by=wanted.created_by, uses=uses)

    # Found

    async def complete(self, project: Project, iid: int) -> Object:
        """EngineError `unknown_model`, `not_complete`."""
        return (await self.objects.get(project, KIND, iid)).require_complete()

    def folder_of(self, found: Object) -> Path:
        """What the fit of a complete model has written. EngineError `files_missing` when a person has removed it."""
        model = self._repository.find(found.project.team, made_name(found.name))
        if model is None or model.active is None:
            raise files_missing()
        return model.active.folder

    async def response(self, project: Project, iid: int, node: str | None) -> str:
        """The response curves of a complete model as JSON, perhaps of one node. EngineError `bad_field` for one without a curve."""
        found = await self.complete(project, iid)
        curves = await self.objects.store.read_extra(found.name) or "[]"
        if node is None:
            return curves
        chosen = [curve for curve in ujson.loads(curves) if curve["Node"] == node]
        if not chosen:
            message = f"The model has no response curve of {node[:100]}: only media have one."
            raise ListedError(BAD_FIELD, message, [{"Code": str(BAD_FIELD), "Column": "node", "Message": message}])
        return encoded(chosen)
