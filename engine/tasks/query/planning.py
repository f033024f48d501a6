"""Planning: what of a query can be answered without SQL, from the bottom up, and running that part.

A scan with a filter becomes its row numbers; ORDER BY a score with LIMIT becomes the best rows; LIMIT alone becomes a slice; scores
fused by rank are computed. What is left is a relation over chosen rows, for relational.py. Each thing done is a step of the plan.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from engine.tasks.query.bound import (
    Bound,
    Combined,
    Field,
    Fields,
    Filter,
    Fused,
    Joined,
    Limit,
    Node,
    Rows,
    Scan,
    Score,
    Sort,
    SortKey,
    Taken,
    Value,
    VectorScore,
    WordScore,
    apply,
)
from engine.tasks.query.constants import vector_of_value
from engine.tasks.query.database import Control, Database
from engine.tasks.query.datatypes import BOOL, INT
from engine.tasks.query.monotone import by_its_score
from engine.tasks.query.ordering import provides
from engine.tasks.query.ranking import Ranked, first, rrf
from engine.tasks.query.refusals import Refused
from engine.tasks.query.relational import Emitter
from engine.tasks.query.sql import Sql
from engine.tasks.query.steps import Steps
from engine.tasks.query.taking import table_of
from engine.tasks.query.vectors import scores as score_rows
from engine.tasks.query.vectors import top_k
from engine.tasks.query.walking import conjuncts, expressions_of, inner_queries, leaves, scan_of, scored_scans
from engine.tasks.query.words import bm25

# Above this, sorting in SQL costs less than keeping the best.
MAX_TOP_ROWS = 10_000
MAX_JOINED_ROWS = 5_000_000


class Planning:
    """Plans and runs the parts of one query. With `is_dry` filters run, for the plan depends on them, and nothing else does."""

    def __init__(self, database: Database, control: Control, *, is_dry: bool = False) -> None:
        self.steps = Steps()
        self.is_dry = is_dry
        self.control = control
        self.database = database
        self._fields = Fields()
        self._scored: set[Scan] = set()
        self._settled: set[int] = set()

    def settle(self, rows: Rows, fields: Fields) -> None:
        """Run what needs no SQL; `rows.node` becomes what is left. `fields` made those of the rows."""
        self._fields = fields
        self._scored |= set(scored_scans(rows))
        self._settle_rows(rows)

    def _settle_rows(self, rows: Rows) -> None:
        if id(rows) not in self._settled:
            self._settled.add(id(rows))
            rows.node = self._settle(rows.node)
            for _, expression in rows.columns:
                self._settle_inside(expression)

    def _settle_inside(self, expression: Bound) -> None:
        for inner in inner_queries(expression):
            self._settle_rows(inner.query)

    def _settle(self, node: Node) -> Node:
        self.control.check()
        if isinstance(node, Scan):
            return Taken(node, None, {})
        if isinstance(node, Taken):
            return node
        if isinstance(node, Filter):
            return self._settle_filter(node)
        if isinstance(node, Limit):
            return self._settle_limit(node)
        if isinstance(node, Fused):
            return self._settle_fused(node)
        if isinstance(node, Joined):
            return self._settle_join(node)
        if isinstance(node, Combined):
            self._settle_rows(node.left)
            self._settle_rows(node.right)
            return node
        for expression in expressions_of(node):
            self._settle_inside(expression)
        node.input = self._settle(node.input)
        if isinstance(node, Sort):
            node.keys = tuple(map(by_its_score, node.keys))
        return node

    # Filters

    def _settle_filter(self, node: Filter) -> Node:
        """First what is known of one side of a join, and what needs no score: scores are for the rows that are left."""
        self._settle_inside(node.condition)
        if isinstance(node.input, Sort):
            return self._settle(replace(node.input, input=Filter(node.input.input, node.condition)))
        if isinstance(node.input, Joined):
            return self._settle_filter_of_join(node, node.input)
        below = self._settle(node.input)
        if not isinstance(below, Taken) or below.scan not in self._scored or below.position is not None:
            return Filter(below, node.condition)
        parts = conjuncts(node.condition)
        plain = [part for part in parts if _is_plain(part, below)]
        if plain:
            below = self.chosen(Filter(below, _all_of(plain)), below)
        scoring = [part for part in parts if part not in plain]
        return Filter(below, _all_of(scoring)) if scoring else below

    def _settle_filter_of_join(self, node: Filter, join: Joined) -> Node:
        left, right, rest = [], [], []
        for part in conjuncts(node.condition):
            found = list(leaves(part))
            if found and all(provides(join.left, leaf) for leaf in found):
                left.append(part)
            elif found and join.kind == "inner" and all(provides(join.right, leaf) for leaf in found):
                right.append(part)
            else:
                rest.append(part)
        join.left = Filter(join.left, _all_of(left)) if left else join.left
        join.right = Filter(join.right, _all_of(right)) if right else join.right
        joined = self._settle(join)
        return Filter(joined, _all_of(rest)) if rest else joined

    def chosen(self, node: Filter, below: Taken) -> Taken:
        """The rows that a condition leaves."""
        step = self.steps.begin("filter", dataset=below.scan.source.title, rows=below.num_rows)
        table = self.query(node, [below.scan.row])
        rows = table.column(0).to_numpy()
        self.steps.end(step, len(rows), kept=len(rows))
        places = rows if below.rows is None else np.searchsorted(below.rows, rows)
        return Taken(below.scan, rows, {score: known[places] for score, known in below.scores.items()})

    # Limits

    def _settle_limit(self, node: Limit) -> Node:
        below = self._settle(node.input)
        if isinstance(below, Taken):
            return _sliced(below, node)
        if isinstance(below, Sort) and isinstance(below.input, Taken):
            best = self._best(below.input, below.keys, node)
            if best is not None:
                return best
        return replace(node, input=below)

    def _best(self, taken: Taken, keys: tuple[SortKey, ...], limit: Limit) -> Taken | None:
        """The first rows by one score; None where that takes SQL."""
        key = keys[0].expression
        last = None if limit.number is None else limit.number + limit.offset
        if last is None or last > MAX_TOP_ROWS or len(keys) > 1 or taken.position is not None:
            return None
        if not isinstance(key, VectorScore | WordScore) and key not in taken.scores:
            return None
        if isinstance(key, VectorScore) and key not in taken.scores:
            rows, scores = self._top_k(taken, key, last, keys[0].is_descending)
            best = Taken(taken.scan, rows, {key: scores}, self._fields.new(INT))
            return _sliced(best, limit)
        scores = self.scores(taken, key)
        places = first(scores, last, is_descending=keys[0].is_descending)
        rows = places if taken.rows is None else taken.rows[places]
        known = {score: values[places] for score, values in taken.scores.items()}
        return _sliced(Taken(taken.scan, rows, known, self._fields.new(INT)), limit)

    def _top_k(self, taken: Taken, score: VectorScore, k: int, is_descending: bool) -> tuple[Any, Any]:
        step = self.steps.begin(self._way(taken, "scan_topk"), **_described(taken, score), k=k)
        if self.is_dry:
            num_rows = min(k, taken.num_rows)
            return np.arange(num_rows), np.zeros(num_rows, dtype=np.float32)
        segments = taken.scan.source.vectors(_column(score.field))
        rows, scores = top_k(
            score.metric,  # type: ignore[arg-type]  # one of METRICS
            segments,
            _compared(score),
            k,
            is_descending=is_descending,
            rows=taken.rows,
            control=self.control,
        )
        self.steps.end(step, len(rows))
        return rows, scores

    def _way(self, taken: Taken, name: str) -> str:
        return name if taken.rows is None or taken.is_masked else "gather"

    # Scores

    def scores(self, taken: Taken, score: Score | Field) -> Any:
        """float32 [N] of the chosen rows; computed once."""
        if score not in taken.scores and not isinstance(score, Field):
            taken.scores[score] = self._computed(taken, score)
        return taken.scores[score]

    def _computed(self, taken: Taken, score: Score) -> Any:
        name = "words" if isinstance(score, WordScore) else self._way(taken, "scan")
        step = self.steps.begin(name, **_described(taken, score))
        source, column = taken.scan.source, _column(score.field)
        if self.is_dry:
            return np.zeros(taken.num_rows, dtype=np.float32)
        if isinstance(score, WordScore):
            found = bm25(source, column, score.text, taken.rows, control=self.control)
        else:
            segments, other = source.vectors(column), _compared(score)
            found = score_rows(score.metric, segments, other, rows=taken.rows, control=self.control)  # type: ignore[arg-type]
        self.steps.end(step, len(found))
        return found

    def _settle_fused(self, node: Fused) -> Node:
        below = self._settle(node.input)
        if isinstance(below, Filter) and isinstance(below.input, Taken) and below.input.position is None:
            below = self.chosen(below, below.input)
        if not isinstance(below, Taken) or any(score.field.scan is not below.scan for score, _ in node.scores):
            return replace(node, input=below)
        rankings = [Ranked(self.scores(below, score), best, isinstance(score, WordScore)) for score, best in node.scores]
        step = self.steps.begin("rrf", dataset=below.scan.source.title, rows=below.num_rows)
        fused = rrf(rankings)
        self.steps.end(step, len(fused))
        return Taken(below.scan, below.rows, {**below.scores, node.fused: fused}, below.position)

    # Joins

    def _settle_join(self, node: Joined) -> Node:
        for pair in node.pairs:
            for expression in pair:
                self._settle_inside(expression)
        node.left, node.right = self._settle(node.left), self._settle(node.right)
        if not self.is_dry:
            self._check_size(node)
        return node

    def _check_size(self, node: Joined) -> None:
        """Refused (`too_complex`) before a join makes more rows than memory holds."""
        step = self.steps.begin("join_size")
        emitter = Emitter()
        [num_rows] = self.run(emitter, emitter.join_size(node)).column(0).to_pylist()
        self.steps.end(step, 1)
        if num_rows is not None and num_rows > MAX_JOINED_ROWS:
            message = f"The JOIN would make {int(num_rows)} rows; the limit is {MAX_JOINED_ROWS}."
            raise Refused("too_complex", message, at=node.at)

    # SQL

    def query(self, node: Node, columns: list[Bound]) -> Any:
        emitter = Emitter()
        return self.run(emitter, emitter.statement(node, columns))

    def run(self, emitter: Emitter, statement: Sql) -> Any:
        """All rows of a statement, as an Arrow table."""
        tables = self.tables(emitter)
        began = time.perf_counter()
        try:
            return self.database.table(statement, tables, self.control)
        finally:
            self.steps.timings["sql"] += 1000 * (time.perf_counter() - began)

    def tables(self, emitter: Emitter) -> dict[str, Any]:
        """What a statement reads, with the scores computed."""
        found: dict[str, Any] = {}
        for name, (taken, wanted) in emitter.tables.items():
            scores = {
                leaf: self.scores(taken, leaf)
                for leaf in wanted.values()
                if leaf is not None and (leaf in taken.scores or not isinstance(leaf, Field))
            }
            found[name] = table_of(taken, wanted, scores)
        return found


def _is_plain(condition: Bound, taken: Taken) -> bool:
    """Whether it can be decided without a score."""
    return all(isinstance(leaf, Field) and scan_of(leaf) is taken.scan for leaf in leaves(condition))


def _all_of(conditions: list[Bound]) -> Bound:
    return conditions[0] if len(conditions) == 1 else apply("and", tuple(conditions), BOOL)


def _sliced(taken: Taken, limit: Limit) -> Taken:
    stop = None if limit.number is None else limit.offset + limit.number
    part = slice(limit.offset, stop)
    rows = np.arange(taken.num_rows)[part] if taken.rows is None else taken.rows[part]
    return Taken(taken.scan, rows, {score: values[part] for score, values in taken.scores.items()}, taken.position)


def _column(field: Field) -> Any:
    if field.column is None:
        raise TypeError("this is a bug: a score is of a stored column")
    return field.column


def _compared(score: VectorScore) -> Any:
    """A vector, or the other column."""
    if isinstance(score.other, Value):
        return vector_of_value(score.other)
    scan = score.other.scan
    return [] if scan is None else scan.source.vectors(_column(score.other))


def _described(taken: Taken, score: Score) -> dict[str, Any]:
    described: dict[str, Any] = {"dataset": taken.scan.source.title, "column": _column(score.field).name}
    if isinstance(score, VectorScore):
        described["metric"] = score.metric
    return {**described, "rows": taken.num_rows}
