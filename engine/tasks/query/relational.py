"""The emitter: relations as SQL. Its text has our own words, generated names and a `?` for every constant, and nothing else.

Names: `t0`, ... tables; `c0`, ... fields; `s0`, ... scores; `r` the row number in a table, and the place among equals. A relation
asks the one below only for what it needs. Rows have an order all the way up: order_of says by which expressions. Knows no database.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engine.tasks.query.bound import (
    Aggregated,
    Aggregation,
    Apply,
    Bound,
    Combined,
    Extended,
    Field,
    Filter,
    Fused,
    Joined,
    Limit,
    LimitBy,
    Node,
    Numbered,
    Rows,
    Score,
    Sort,
    SortKey,
    Taken,
    WordScore,
)
from engine.tasks.query.datatypes import sql_type
from engine.tasks.query.ordering import is_in_scan_order, is_row_number, order_of, provides
from engine.tasks.query.ranking import MAX_RRF_RANK, RRF_CONSTANT
from engine.tasks.query.sql import Sql, fill, join
from engine.tasks.query.walking import leaves
from engine.tasks.query.writing import NAN, Writer

Leaf = Field | Score
# Positions of the right side of a set operation begin here, behind all of the left side.
RIGHT_SIDE = 2**62
AGGREGATES = {
    "count_rows": "count(*)",
    "count": "count({})",
    "sum": "CAST(sum({}) AS BIGINT)",
    "avg": "avg({})",
    "min": "min({})",
    "max": "max({})",
}


class Emitter:
    """Writes one statement. `tables` are the rows that it reads: name -> rows and the columns that are wanted of them."""

    def __init__(self) -> None:
        self.writer = Writer(self.write_rows)
        self.tables: dict[str, tuple[Taken, dict[str, Leaf | None]]] = {}

    def write_rows(self, rows: Rows) -> Sql:
        """A subquery behind IN; the order of its rows matters to nobody but its own LIMIT."""
        columns = [expression for _, expression in rows.columns]
        return fill("SELECT {} FROM ({})", self._list(columns), self.relation(rows.node, _leaves(columns)))

    def statement(self, node: Node, columns: Sequence[Bound]) -> Sql:
        """All rows in order, with these columns."""
        limit = node if isinstance(node, Limit) else None
        below = node.input if isinstance(node, Limit) else node
        order = () if is_in_scan_order(below) else order_of(below)
        source = self.relation(below, _leaves([*columns, *_expressions(order)]))
        return fill("SELECT {} FROM ({}){}{}", self._list(columns), source, self._order(order), _cut(limit))

    def relation(self, node: Node, needed: Iterable[Leaf]) -> Sql:
        """A SELECT with the needed fields and scores as columns of their names."""
        return _RELATIONS[type(node)](self, node, list(dict.fromkeys(needed)))

    # Relations

    def _taken(self, node: Taken, needed: list[Leaf]) -> Sql:
        """A vector is a list from here on: so DuckDB has the functions of lists for it."""
        wanted: dict[str, Leaf | None] = {}
        columns = [self._stored(node, leaf, wanted) for leaf in needed]
        if not columns:
            wanted["r"] = node.scan.row
            columns = ["r"]
        table = f"t{len(self.tables)}"
        self.tables[table] = (node, wanted)
        where = ""
        if node.is_masked:
            wanted["s"] = None
            where = " WHERE s"
        return Sql(f"SELECT {', '.join(columns)} FROM {table}{where}")

    def _stored(self, node: Taken, leaf: Leaf, wanted: dict[str, Leaf | None]) -> str:
        name = self.writer.name(leaf)
        if leaf == node.scan.row:
            wanted["r"] = leaf
            return f"r AS {name}"
        wanted[name] = leaf
        return f"CAST({name} AS FLOAT[]) AS {name}" if leaf.type.name == "vector" else name

    def _filter(self, node: Filter, needed: list[Leaf]) -> Sql:
        source = self.relation(node.input, [*needed, *leaves(node.condition)])
        return fill("SELECT {} FROM ({}) WHERE {}", self._columns(needed), source, self.writer.write(node.condition))

    def _sort(self, node: Sort, needed: list[Leaf]) -> Sql:
        """What is above orders the rows, by order_of."""
        return self.relation(node.input, needed)

    def _limit(self, node: Limit, needed: list[Leaf]) -> Sql:
        order = () if is_in_scan_order(node.input) else order_of(node.input)
        source = self.relation(node.input, [*needed, *_leaves(_expressions(order))])
        return fill("SELECT {} FROM ({}){}{}", self._columns(needed), source, self._order(order), _cut(node))

    def _limit_by(self, node: LimitBy, needed: list[Leaf]) -> Sql:
        order = order_of(node.input)
        source = self.relation(node.input, [*needed, *leaves(node.key), *_leaves(_expressions(order))])
        places = fill(
            f"SELECT {{}}, row_number() OVER (PARTITION BY {{}}{{}}) AS {node.position.name} FROM ({{}})",
            self._columns(needed),
            self.writer.write(node.key),
            self._order(order),
            source,
        )
        template = f"SELECT {{}} FROM ({{}}) WHERE {node.position.name} <= CAST(? AS BIGINT)"
        return fill(template, self._columns(needed), places, own=(node.number,))

    def _numbered(self, node: Numbered, needed: list[Leaf]) -> Sql:
        order = order_of(node.input)
        below = [leaf for leaf in needed if leaf != node.position]
        source = self.relation(node.input, [*below, *_leaves(_expressions(order))])
        number = fill("(row_number() OVER ({}) - CAST(? AS BIGINT))", self._order(order), own=(1,))
        return fill("SELECT {} FROM ({})", self._computed(needed, {node.position: number}), source)

    def _extended(self, node: Extended, needed: list[Leaf]) -> Sql:
        made: dict[Leaf, Bound] = {new: expression for new, expression in node.columns if new in needed}
        below = [leaf for leaf in needed if leaf not in made]
        source = self.relation(node.input, [*below, *_leaves(made.values())])
        written = {new: self.writer.write(expression) for new, expression in made.items()}
        return fill("SELECT {} FROM ({})", self._computed(needed, written), source)

    def _fused(self, node: Fused, needed: list[Leaf]) -> Sql:
        """Ranks as windows: for scores of joined rows."""
        order = order_of(node.input)
        below = [leaf for leaf in needed if leaf != node.fused]
        scores = [score for score, _ in node.scores]
        source = self.relation(node.input, [*below, *scores, *_leaves(_expressions(order))])
        shares = [self._share(score, is_descending, order) for score, is_descending in node.scores]
        fused = fill("CAST(({}) AS FLOAT)", join(" + ", shares))
        return fill("SELECT {} FROM ({})", self._computed(needed, {node.fused: fused}), source)

    def _share(self, score: Score, is_descending: bool, order: tuple[SortKey, ...]) -> Sql:
        """What the rank by one score adds."""
        rank = fill("row_number() OVER ({})", self._order((SortKey(score, is_descending), *order)))
        found = Sql(f"{self.writer.name(score)} IS NOT NULL")
        if isinstance(score, WordScore):
            found = fill("({} AND {} <> CAST(? AS FLOAT))", found, Sql(self.writer.name(score)), own=(0.0,))
        template = (
            "CASE WHEN {} AND {} <= CAST(? AS BIGINT) THEN CAST(? AS DOUBLE) / (CAST(? AS DOUBLE) + {}) ELSE CAST(? AS DOUBLE) END"
        )
        return fill(template, found, rank, rank, own=(MAX_RRF_RANK, 1.0, float(RRF_CONSTANT), 0.0))

    def _aggregation(self, node: Aggregation, needed: list[Leaf]) -> Sql:
        """Keys get their names first: the same `?` twice is not the same expression for DuckDB."""
        aggregates = {new: aggregated for new, aggregated in node.aggregates if new in needed}
        uses_order = node.first in needed or any(one.function == "list" for one in aggregates.values())
        order = order_of(node.input) if uses_order else ()
        arguments = [one.argument for one in aggregates.values() if one.argument is not None]
        below = _leaves([*(key for _, key in node.keys), *arguments, *_expressions(order)])
        named: dict[Leaf, Sql] = {new: self.writer.write(key) for new, key in node.keys}
        if uses_order:
            named[node.first] = self._position(order)
        rows = fill("SELECT {} FROM ({})", self._computed([*below, *named], named), self.relation(node.input, below))
        outputs: dict[Leaf, Sql] = {new: self._aggregate(one, node.first) for new, one in aggregates.items()}
        if uses_order:
            outputs[node.first] = Sql(f"min({node.first.name})")
        keys = ", ".join(new.name for new, _ in node.keys)
        # Where nothing is needed the number of groups is, and without keys there is one.
        shown = self._computed(needed, outputs) if needed else Sql(node.keys[0][0].name if node.keys else "count(*)")
        return fill(f"SELECT {{}} FROM ({{}}){' GROUP BY ' + keys if keys else ''}", shown, rows)

    def _aggregate(self, aggregated: Aggregated, position: Field) -> Sql:
        argument = Sql("") if aggregated.argument is None else self.writer.write(aggregated.argument)
        if aggregated.function == "list":
            return fill(f"list({{}} ORDER BY {position.name})", argument)
        if aggregated.is_distinct:
            return fill("count(DISTINCT {})", argument)
        if aggregated.function == "sum" and sql_type(aggregated.type) == "DOUBLE":
            return fill("sum({})", argument)
        return fill(AGGREGATES[aggregated.function], argument)

    def _joined(self, node: Joined, needed: list[Leaf]) -> Sql:
        left, right = self.sides(node, needed)
        keys = [fill("({} = {})", self.writer.write(one), self.writer.write(other)) for one, other in node.pairs]
        template = f"SELECT {{}} FROM ({{}}) {'INNER' if node.kind == 'inner' else 'LEFT'} JOIN ({{}}) ON {{}}"
        return fill(template, self._columns(needed), left, right, join(" AND ", keys))

    def sides(self, node: Joined, needed: list[Leaf]) -> tuple[Sql, Sql]:
        """Both relations of a join, with their keys."""
        left = [*(leaf for leaf in needed if provides(node.left, leaf)), *_leaves(one for one, _ in node.pairs)]
        right = [*(leaf for leaf in needed if provides(node.right, leaf)), *_leaves(other for _, other in node.pairs)]
        return self.relation(node.left, left), self.relation(node.right, right)

    def join_size(self, node: Joined) -> Sql:
        """How many rows an inner join gives, without making them."""
        sides = []
        for i, (side, relation) in enumerate(zip(("t", "s"), self.sides(node, []), strict=True)):
            names = [f"{side}{place}" for place in range(len(node.pairs))]
            keys = [fill(f"{{}} AS {name}", self.writer.write(pair[i])) for name, pair in zip(names, node.pairs, strict=True)]
            grouped = ", ".join(names)
            rows = fill("SELECT {} FROM ({})", join(", ", keys), relation)
            sides.append(fill(f"SELECT {grouped}, count(*) AS {side} FROM ({{}}) GROUP BY {grouped}", rows))
        equal = " AND ".join(f"(t{place} = s{place})" for place in range(len(node.pairs)))
        return fill(
            f"SELECT CAST(sum(CAST(t AS DOUBLE) * CAST(s AS DOUBLE)) AS DOUBLE) FROM ({{}}) INNER JOIN ({{}}) ON {equal}", *sides
        )

    def _combined(self, node: Combined, needed: list[Leaf]) -> Sql:
        rows = fill("{} UNION ALL {}", self._side(node, node.left, 0), self._side(node, node.right, RIGHT_SIDE))
        if node.operator == "union" and node.is_all:
            return fill("SELECT {} FROM ({})", self._columns(needed or [node.position]), rows)
        fields = ", ".join(field.name for field in node.fields)
        side, position = node.is_right.name, node.position.name
        if node.is_all:  # the first row of a value on the left meets the first on the right, and so on
            place = f"row_number() OVER (PARTITION BY {fields}, {side} ORDER BY {position}) AS r"
            rows = fill(f"SELECT {fields}, {position}, {side}, {place} FROM ({{}})", rows)
            fields += ", r"
        having = {
            "union": "",
            "intersect": f" HAVING bool_or({side}) AND bool_or(NOT {side})",
            "except": f" HAVING NOT bool_or({side})",
        }[node.operator]
        shown = self._computed(needed or [node.position], {node.position: Sql(f"min({position})")})
        return fill(f"SELECT {{}} FROM ({{}}) GROUP BY {fields}{having}", shown, rows)

    def _side(self, node: Combined, rows: Rows, start: int) -> Sql:
        order = order_of(rows.node)
        columns = [expression for _, expression in rows.columns]
        named: dict[Leaf, Sql] = {new: self.writer.write(one) for new, one in zip(node.fields, columns, strict=True)}
        named[node.position] = fill("({} + CAST(? AS BIGINT))", self._position(order), own=(start,))
        named[node.is_right] = Sql("TRUE" if start else "FALSE")
        source = self.relation(rows.node, _leaves([*columns, *_expressions(order)]))
        return fill("SELECT {} FROM ({})", self._computed(list(named), named), source)

    # Parts of a SELECT

    def _columns(self, needed: list[Leaf]) -> Sql:
        return Sql(", ".join(self.writer.name(leaf) for leaf in needed) or "TRUE AS r")

    def _computed(self, needed: list[Leaf], made: dict[Leaf, Sql]) -> Sql:
        """The needed columns, some of which are computed here."""
        columns = []
        for leaf in dict.fromkeys(needed):
            name = self.writer.name(leaf)
            columns.append(fill(f"{{}} AS {name}", made[leaf]) if leaf in made else Sql(name))
        return join(", ", columns) if columns else Sql("TRUE AS r")

    def _list(self, columns: Sequence[Bound]) -> Sql:
        return join(", ", map(self.writer.write, columns))

    def _order(self, keys: tuple[SortKey, ...]) -> Sql:
        return fill(" ORDER BY {}", join(", ", map(self._key, keys))) if keys else Sql("")

    def _key(self, key: SortKey) -> Sql:
        """Nulls last, and NaN with them, which DuckDB takes for the largest number."""
        written = self.writer.write(key.expression)
        if key.expression.type.is_float and isinstance(key.expression, Field | Apply):
            written = fill("NULLIF({}, CAST(? AS DOUBLE))", written, own=(NAN,))
        return fill(f"{{}} {'DESC' if key.is_descending else 'ASC'} NULLS LAST", written)

    def _position(self, order: tuple[SortKey, ...]) -> Sql:
        """A whole number that orders the rows as `order` does."""
        if len(order) == 1 and isinstance(order[0].expression, Field) and is_row_number(order[0].expression):
            return Sql(order[0].expression.name)
        return fill("row_number() OVER ({})", self._order(order))


def _leaves(expressions: Iterable[Bound]) -> list[Leaf]:
    return [leaf for expression in expressions for leaf in leaves(expression)]


def _expressions(order: tuple[SortKey, ...]) -> list[Bound]:
    return [key.expression for key in order]


def _cut(limit: Limit | None) -> Sql:
    if limit is None:
        return Sql("")
    number = Sql("") if limit.number is None else Sql(" LIMIT CAST(? AS BIGINT)", (limit.number,))
    offset = Sql("") if not limit.offset else Sql(" OFFSET CAST(? AS BIGINT)", (limit.offset,))
    return join("", (number, offset))


_RELATIONS: dict[type, Callable[[Any, Any, list[Leaf]], Sql]] = {
    Taken: Emitter._taken,
    Filter: Emitter._filter,
    Sort: Emitter._sort,
    Limit: Emitter._limit,
    LimitBy: Emitter._limit_by,
    Numbered: Emitter._numbered,
    Extended: Emitter._extended,
    Fused: Emitter._fused,
    Aggregation: Emitter._aggregation,
    Joined: Emitter._joined,
    Combined: Emitter._combined,
}
