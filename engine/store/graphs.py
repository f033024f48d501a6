"""Graphs: those of the high level, and the instances of the low level that they were made into. Ids are never used again.

Bodies are JSON, and nobody looks into them here.
"""

from dataclasses import dataclass

from engine.store.connection import Database, Transaction

ADD_GRAPH = "INSERT INTO graph (team, project, body, created_at, is_saved) VALUES (?, ?, ?, ?, ?) RETURNING id"
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
# Forget a graph that nobody has saved, and its instances.
REMOVE_GRAPH = "DELETE FROM graph WHERE id = ? AND NOT is_saved"


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

    async def find_instance(self, team: str, instance: int) -> InstanceRow | None:
        rows = await self._rows(FIND_INSTANCE, (team, instance))
        return InstanceRow(*rows[0]) if rows else None

    async def remove_graph(self, graph: int) -> bool:
        """Forget a graph that nobody has saved, with its instances; False when there is none."""
        return await self._write((REMOVE_GRAPH, (graph,)))

    # In a transaction

    async def add_graph(
        self, transaction: Transaction, team: str, project: str, body: str, *, created_at: str, is_saved: bool
    ) -> int:
        """The id of the new graph."""
        [(graph,)] = await transaction.rows(ADD_GRAPH, (team, project, body, created_at, int(is_saved)))
        return int(graph)

    async def add_instance(self, transaction: Transaction, graph: int, team: str, body: str) -> int:
        """The id of the new instance."""
        [(instance,)] = await transaction.rows(ADD_INSTANCE, (graph, team, body))
        return int(instance)
