"""Plots: a replica draws a model or an attribution, with the names that its graph gives to nodes. Knows no HTTP."""

import hashlib
from dataclasses import dataclass
from typing import Any

from engine.projects.asking import ask, short_task
from engine.projects.attributions import Attributions
from engine.projects.datasets import ProjectDatasets, title_of
from engine.projects.graphs import Graphs
from engine.projects.models import Models
from engine.projects.objects import Object, Project
from engine.replicas.pool import Pool

PLOT = short_task("plot")
RESPONSE = "response"
MODEL_KINDS = ("fit", RESPONSE, "residuals", "baseline")
ATTRIBUTION_KINDS = ("contributions", "waterfall")
SMALLEST, LARGEST = 200, 4000


@dataclass(frozen=True, slots=True)
class Picture:
    """Which plot; width and height in pixels."""

    kind: str
    width: int
    height: int


class Plots:
    """The plots of all projects.

    queries  the pool whose replicas draw
    """

    def __init__(
        self, models: Models, attributions: Attributions, datasets: ProjectDatasets, graphs: Graphs, queries: Pool
    ) -> None:
        self._models = models
        self._attributions = attributions
        self._datasets = datasets
        self._graphs = graphs
        self._queries = queries

    async def of_model(self, project: Project, iid: int, picture: Picture) -> tuple[bytes, str]:
        """SVG, and a word that only these bytes have. EngineError `unknown_model`, `not_complete`."""
        found = await self._models.complete(project, iid)
        if picture.kind == RESPONSE:
            curves = await self._models.response(project, iid, None)
            return await self._drawn(found, picture, {}, curves)
        files = await self._datasets.files_of(project, found.request["dataset"])
        asked = {"model": str(self._models.folder_of(found)), "files": files, "eval_dates": found.request["eval_dates"]}
        return await self._drawn(found, picture, asked)

    async def of_attribution(self, project: Project, iid: int, picture: Picture) -> tuple[bytes, str]:
        """The same of an attribution. EngineError `unknown_attribution`, `not_complete`."""
        found = await self._attributions.complete(project, iid)
        return await self._drawn(found, picture, {"attribution": str(self._attributions.folder_of(found))})

    async def _drawn(self, found: Object, picture: Picture, asked: dict[str, Any], curves: str = "") -> tuple[bytes, str]:
        graph = (await self._graphs.get(found.project, found.request["graph"])).body.encode()
        look = {"kind": picture.kind, "width": picture.width, "height": picture.height}
        about = {"title": f"{title_of(found.name)}: {picture.kind}", "graph_bytes": len(graph)}
        answer = await ask(self._queries, PLOT, {**asked, **look, **about}, [graph, curves.encode()])
        svg = bytes(answer.payload)
        return svg, hashlib.blake2b(svg, digest_size=16).hexdigest()
