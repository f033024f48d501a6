"""The job `fit`: a replica fits a model into a folder among the models, which is then published as any upload would be.

A second attempt, after a death, writes the same bytes, so it publishes no second version. Knows no numbers.
"""

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import ujson

from engine.jobs import JobKind, Work
from engine.projects.codes import WARNINGS
from engine.projects.datasets import ProjectDatasets, title_of
from engine.projects.files import made_name
from engine.projects.graphs import Graphs
from engine.projects.models import Models
from engine.projects.objects import Object, Objects, encoded
from engine.projects.publishing import Publishing
from engine.projects.values import values_of
from engine.projects.work import Settled, object_kind, task_of
from engine.replicas.blocks import Answer, Arguments
from engine.store import ObjectName, Transaction


@dataclass(frozen=True, slots=True)
class FitLimits:
    """What fits may take. Settings of server/config.py, by the same names."""

    fit_parameters: int
    hmc_gradients: int
    export_draws: int
    job_limit_s: float


class Fitting:
    """The kind of job that makes models."""

    def __init__(
        self,
        objects: Objects,
        models: Models,
        datasets: ProjectDatasets,
        graphs: Graphs,
        publishing: Publishing,
        limits: FitLimits,
    ) -> None:
        self._objects = objects
        self._models = models
        self._datasets = datasets
        self._graphs = graphs
        self._publishing = publishing
        self._limits = limits
        self._task = task_of("fit", limit_s=limits.job_limit_s)

    def kind(self) -> JobKind:
        return object_kind(self._objects, self._task.name, "slow", self._ask, self._settled)

    async def _ask(self, found: Object) -> Work:
        arguments = await self._arguments(found)
        stack = contextlib.AsyncExitStack()
        incoming = await stack.enter_async_context(self._publishing.incoming(found.name))

        async def end() -> None:
            await stack.aclose()
            await self._publishing.remove_unwanted(found)

        then = functools.partial(self._publishing.publish, found, incoming)
        return Work(self._task, {**arguments, "folder": str(incoming.folder)}, then=then, end=end)

    async def _arguments(self, found: Object) -> Arguments:
        """What the replica is asked with, but for its folder. EngineError when something that the model is made of is gone."""
        request, project = found.request, found.project
        parent = request["parent"]
        folder = None if parent is None else str(self._models.folder_of(await self._models.complete(project, parent)))
        instance = (await self._graphs.instance(project.team, request["instance"])).body
        return {
            "files": await self._datasets.files_of(project, request["dataset"]),
            "combination": request["combination"],
            "instance": ujson.loads(instance),
            "train_dates": request["train_dates"],
            "eval_dates": request["eval_dates"],
            **request["parameters"],
            "parent": folder,
            "owner": project.team,
            "name": made_name(found.name),
            "dataset": title_of(ObjectName(project.team, project.id, "dataset", request["dataset"])),
            "max_gradients": self._limits.hmc_gradients,
            "export_draws": self._limits.export_draws,
        }

    async def _settled(self, transaction: Transaction, found: Object, answer: Answer) -> Settled:
        values, header, request = values_of(answer), answer.header, found.request
        served = {"Name": f"{found.project.team}/{made_name(found.name)}", "Version": header["version"], "Window": header["window"]}
        result = f'{values["figures"][:-1]},"Served":{encoded(served)}}}'
        warnings = merged(request["warnings"], header["warnings"])
        slot = None
        if request["activate"] and header["converged"]:
            slot = slot_of(found)
            transaction.after_commit(self._publishing.note_activation)
        elif request["activate"]:
            warnings.append({"Code": "not_activated", "Message": f"{WARNINGS['not_activated'].capitalize()}."})
        return Settled(result, warnings, values["response"], slot)


def slot_of(found: Object) -> str:
    """The slot of a model. It is that of its combination, so that one model of each combination is active."""
    return "/".join(found.request["combination"])


def merged(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The warnings of both, each once."""
    return [*first, *(warning for warning in second if warning not in first)]
