"""Graphs: what drives what, as people draw it (the high level), and as it is fitted (an instance, of the low level).

A replica checks graphs and expands them. Here they are kept and found, as JSON that nobody looks into. Knows no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, ListedError
from engine.projects.asking import ask, short_task
from engine.projects.codes import IN_USE, UNKNOWN_GRAPH
from engine.projects.objects import Project, encoded, now, unknown_project
from engine.projects.values import values_of
from engine.replicas.pool import Pool
from engine.store import GraphRow, InstanceRow, Store, Transaction

Graph = Mapping[str, Any]

CHECK_GRAPH, CHECK_DRAWING, DEFAULT_GRAPH = map(short_task, ("check_graph", "check_drawing", "default_graph"))


@dataclass(frozen=True, slots=True)
class KeptGraph:
    """The ids of an instance and of the graph that it was made from."""

    graph: int
    instance: int


class Graphs:
    """The graphs of all projects.

    queries  the pool whose replicas look at graphs
    """

    def __init__(self, store: Store, queries: Pool) -> None:
        self._store = store
        self._queries = queries

    async def save(self, project: Project, graph: Graph) -> GraphRow:
        """Keep a graph of the high level that a person has drawn. ListedError `invalid_graph`, `mixed_graph`, `graph_too_large`."""
        body = values_of(await ask(self._queries, CHECK_DRAWING, {"graph": graph}))["graph"]
        created_at = now()
        async with self._store.transaction() as transaction:
            return GraphRow(await self._add(transaction, project, body, created_at, is_saved=True), body, created_at)

    async def keep(self, transaction: Transaction, project: Project, graph: str, instance: str) -> KeptGraph:
        """Keep what a model is made of, the graph and its instance, both JSON; they go with the last model that has them.

        transaction  that makes the model
        raises       EngineError `unknown_project`
        """
        graph_id = await self._add(transaction, project, graph, now(), is_saved=False)
        return KeptGraph(graph_id, await self._store.add_instance(transaction, graph_id, project.team, instance))

    async def _add(self, transaction: Transaction, project: Project, graph: str, created_at: str, *, is_saved: bool) -> int:
        """The id of a new graph. EngineError `unknown_project`."""
        add = self._store.add_graph
        graph_id = await add(transaction, project.team, project.id, graph, created_at=created_at, is_saved=is_saved)
        if graph_id is None:
            raise unknown_project()
        return graph_id

    async def get(self, project: Project, graph: int) -> GraphRow:
        """EngineError `unknown_graph`."""
        found = await self._store.find_graph(project.team, project.id, graph)
        if found is None:
            raise EngineError(UNKNOWN_GRAPH, "The project has no such graph.")
        return found

    async def delete(self, project: Project, graph: int) -> None:
        """Forget a graph that a person has saved. EngineError `unknown_graph`; ListedError `in_use` for one that models have."""
        if await self._store.remove_saved_graph(project.team, project.id, graph):
            return
        await self.get(project, graph)
        models = await self._store.list_models_of_graph(project.team, project.id, graph)
        details = [{"Code": "used", "Kind": "model", "IId": iid, "Message": f"Model {iid} has it."} for iid in models]
        raise ListedError(IN_USE, f"Graph {graph} goes with the last model that has it.", details)

    async def saved(self, project: Project, *, limit: int, before: int | None) -> list[GraphRow]:
        """Those that people have saved, newest first."""
        return await self._store.list_graphs(project.team, project.id, limit=limit, before=before)

    async def instance(self, team: str, instance: int) -> InstanceRow:
        """EngineError `unknown_graph`."""
        found = await self._store.find_instance(team, instance)
        if found is None:
            raise EngineError(UNKNOWN_GRAPH, "The team has no such graph instance.")
        return found

    async def suggested(self, files: Mapping[str, str], combination: list[str]) -> str:
        """The default graph of a combination of a dataset, JSON. ListedError `unknown_combination`, `sales_missing`."""
        answer = await ask(self._queries, DEFAULT_GRAPH, {"files": files, "combination": combination})
        return values_of(answer)["graph"]

    async def checked(self, asked: Mapping[str, Any]) -> "CheckedGraph":
        """What `check_graph` says. ListedError as it refuses."""
        answer = await ask(self._queries, CHECK_GRAPH, dict(asked))
        values = values_of(answer)
        return CheckedGraph(values["graph"], values["instance"], answer.header["warnings"])


@dataclass(frozen=True, slots=True)
class CheckedGraph:
    """A graph that can be fitted, with its instance, both JSON, and what is to be said about it."""

    graph: str
    instance: str
    warnings: list[dict[str, Any]]


def body_of(graph_id: int, body: str, **more: Any) -> str:
    """A graph as it is answered: its id and what else is told, then nodes and edges."""
    return encoded({"Id": graph_id, **more})[:-1] + "," + body[1:]
