"""Graphs: those of the high level, and the instances of the low level that they were made into. Ids are never used again.

Bodies are JSON, and nobody looks into them here.
"""

from dataclasses import dataclass

from engine.store.connection import Database, Transaction
from engine.store.objects import ObjectName

# Add a graph, if its project is there.
ADD_GRAPH = """
    INSERT INTO graph (team, project, body, created_at, is_saved)
    SELECT team, id, :body, :created_at, :is_saved FROM project WHERE team = :team AND id = :project AND NOT is_removed
    RETURNING id
"""
ADD_INSTANCE = "INSERT INTO graph_instance (graph, team, body) VALUES (?, ?, ?) RETURNING id"
# Which graph of a project has this id?
FIND_GRAPH = "SELECT id, body, created_at FROM graph WHERE team = ? AND project = ? AND id = ?"
# Which graphs of a project has a person saved? The newest come first.
LIST_GRAPHS = """
    SELECT id, body, created_at FROM graph
    WHERE team = :team AND project = :project AND is_saved AND (:before IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit
"""
# Which instance of a team has this id? Those of projects that are being removed are gone.
FIND_INSTANCE = """
    SELECT i.id, i.graph, i.body FROM graph_instance i
    JOIN graph g ON g.id = i.graph
    JOIN project p ON (p.team, p.id) = (g.team, g.project)
    WHERE i.team = ? AND i.id = ? AND NOT p.is_removed
"""
# Which models, but those that are being removed, have this graph?
LIST_MODELS_OF_GRAPH = """
    SELECT iid FROM project_object
    WHERE team = ? AND project = ? AND kind = 'model' AND json_extract(request, '$.graph') = ? AND NOT is_removed ORDER BY iid
"""
# Forget a graph that a person has saved.
REMOVE_SAVED_GRAPH = "DELETE FROM graph WHERE team = ? AND project = ? AND id = ? AND is_saved"
# Forget the graph of a model that is being removed, with its instances, unless a person has saved the graph or another model of the
# project has it too, as refits do.
REMOVE_GRAPH_OF_MODEL = """
    DELETE FROM graph WHERE NOT is_saved AND id = (
        SELECT json_extract(request, '$.graph') FROM project_object
        WHERE team = :team AND project = :project AND kind = 'model' AND kind = :kind AND iid = :iid AND is_removed
    ) AND NOT EXISTS (
        SELECT 1 FROM project_object o
        WHERE o.team = :team AND o.project = :project AND o.kind = 'model' AND o.iid <> :iid
            AND json_extract(o.request, '$.graph') = graph.id
    )
"""


@dataclass(frozen=True, slots=True)
class GraphRow:
    """One graph of the high level. created_at is UTC, as 2026-01-31T09:00:00Z."""

    id: int
    body: str
    created_at: str


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One graph of the low level, and the id of the one that it was made from."""

    id: int
    graph: int
    body: str


class GraphStore(Database):
    """What the store answers about graphs."""

    async def find_graph(self, team: str, project: str, graph: int) -> GraphRow | None:
        rows = await self._rows(FIND_GRAPH, (team, project, graph))
        return GraphRow(*rows[0]) if rows else None

    async def list_graphs(self, team: str, project: str, *, limit: int, before: int | None) -> list[GraphRow]:
        """Those that a person has saved, newest first; with ids below `before` if there is one."""
        values = {"team": team, "project": project, "limit": limit, "before": before}
        return [GraphRow(*row) for row in await self._rows(LIST_GRAPHS, values)]

    async def list_models_of_graph(self, team: str, project: str, graph: int) -> list[int]:
        """The numbers of the models that have a graph, ascending."""
        return [iid for (iid,) in await self._rows(LIST_MODELS_OF_GRAPH, (team, project, graph))]

    async def remove_saved_graph(self, team: str, project: str, graph: int) -> bool:
        """False when nobody has saved such a graph."""
        return await self._write((REMOVE_SAVED_GRAPH, (team, project, graph)))

    async def find_instance(self, team: str, instance: int) -> InstanceRow | None:
        rows = await self._rows(FIND_INSTANCE, (team, instance))
        return InstanceRow(*rows[0]) if rows else None

    # In a transaction

    async def add_graph(
        self, transaction: Transaction, team: str, project: str, body: str, *, created_at: str, is_saved: bool
    ) -> int | None:
        """The id of the new graph; None when there is no such project."""
        values = {"team": team, "project": project, "body": body, "created_at": created_at, "is_saved": int(is_saved)}
        rows = await transaction.rows(ADD_GRAPH, values)
        return int(rows[0][0]) if rows else None

    async def add_instance(self, transaction: Transaction, graph: int, team: str, body: str) -> int:
        """The id of the new instance."""
        [(instance,)] = await transaction.rows(ADD_INSTANCE, (graph, team, body))
        return int(instance)

    async def remove_graph_of(self, transaction: Transaction, name: ObjectName) -> None:
        """Forget what a model that is being removed was made of, unless something else needs it. Other objects have no graph."""
        values = {"team": name.team, "project": name.project, "kind": name.kind, "iid": name.iid}
        await transaction.run(REMOVE_GRAPH_OF_MODEL, values)
