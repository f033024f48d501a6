"""Steps: what a query did, or would do, one after the other, with the time that each took. For `explain` and the log."""

import time
from typing import Any

from engine.tasks.query.bound import (
    Aggregation,
    Combined,
    Extended,
    Filter,
    Fused,
    Joined,
    Limit,
    LimitBy,
    Node,
    Numbered,
    Scan,
    Sort,
    Taken,
)
from engine.tasks.query.walking import inputs_of

# What the relations are called in a plan.
_SQL_WORDS: dict[type, str] = {
    Filter: "filter",
    Sort: "sort",
    Limit: "limit",
    LimitBy: "limit_by",
    Numbered: "number",
    Extended: "extend",
    Fused: "rrf",
    Aggregation: "group",
    Joined: "join",
    Combined: "combine",
}
# The steps that count as `scan`.
SCORING = {"scan_topk", "scan", "gather", "words", "rrf"}


class Steps:
    """The steps of one query.

    timings  milliseconds by `scan` and `sql`
    """

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.timings = {"scan": 0.0, "sql": 0.0}
        self._began: dict[int, float] = {}

    def begin(self, name: str, **described: Any) -> dict[str, Any]:
        step = {"step": name, **described}
        self.listed.append(step)
        self._began[id(step)] = time.perf_counter()
        return step

    def describe_sql(self, node: Node) -> dict[str, Any]:
        """The step for what is left to DuckDB: the kinds of relations in it, from the bottom up."""
        names: list[str] = []
        waiting = [node]
        while waiting:
            one = waiting.pop()
            waiting += inputs_of(one)
            if not isinstance(one, Scan | Taken):
                names.append(_SQL_WORDS[type(one)])
        return self.begin("sql", operations=names[::-1])

    def end(self, step: dict[str, Any], num_rows: int, **described: Any) -> None:
        """The step is over and gave so many rows."""
        ms = 1000 * (time.perf_counter() - self._began.pop(id(step)))
        if step["step"] in SCORING:
            self.timings["scan"] += ms
        step.setdefault("rows", num_rows)
        step.update(described, rows_out=num_rows, ms=round(ms, 3))
