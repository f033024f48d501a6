"""A query with its meaning: expressions of known types over fields, and the relations that give rows of fields.

binding.py makes these out of the tree of a query; planning.py and relational.py run them. An expression of a subselect stands in
the place of its name, so projections need no node and nested selects over one source are flat. Knows no text, no SQL.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.tasks.query.datatypes import FLOAT32, INT, DataType, stored_type
from engine.tasks.query.refusals import Refused
from engine.tasks.query.segments import ColumnInfo, Source

# What aliases and subselects grow to is limited like the text itself.
MAX_NODES = 4096
MAX_DEPTH = 64
# Below this share of its rows, the rows of a scan are copied.
GATHERED_SHARE = 0.15

# Expressions


@dataclass(frozen=True, slots=True)
class Value:
    """A constant. A vector or matrix is kept as the bytes of its float32, a list as a tuple; so a value can be compared."""

    value: Any
    type: DataType


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a relation. `scan` and `column` say where it is stored; they are None for what a query computes."""

    number: int
    type: DataType
    scan: "Scan | None" = field(default=None, compare=False, repr=False)
    column: ColumnInfo | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """In SQL."""
        return f"c{self.number}"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function or an operator on values; `function` is a word of writing.py. `size` and `depth` count the nodes."""

    function: str
    arguments: "tuple[Bound, ...]"
    type: DataType
    size: int = field(default=1, compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class VectorScore:
    """A vector column compared with a vector, or row by row with another column of its source; float32."""

    metric: str
    field: Field
    other: Value | Field

    @property
    def type(self) -> DataType:
        return FLOAT32


@dataclass(frozen=True, slots=True)
class WordScore:
    """BM25 of a text column and words; float32."""

    field: Field
    text: str

    @property
    def type(self) -> DataType:
        return FLOAT32


@dataclass(frozen=True, slots=True)
class InRows:
    """Whether a value is among those of the only column of another query."""

    operand: "Bound"
    query: "Rows"
    type: DataType


@dataclass(frozen=True, slots=True)
class Element:
    """The element of a list that the Apply `each` around it is looking at."""

    type: DataType


Score = VectorScore | WordScore
Bound = Value | Field | Element | Apply | VectorScore | WordScore | InRows


@dataclass(frozen=True, slots=True)
class Aggregated:
    """An aggregate over the rows of a group: count, count_rows, sum, avg, min, max, or list (all values in row order)."""

    function: str
    argument: Bound | None
    type: DataType
    is_distinct: bool = False


# Relations


@dataclass(eq=False, slots=True)
class Scan:
    """All rows of a source. `row` is the row number."""

    number: int
    source: Source
    row: Field
    fields: dict[int, Field]

    def field(self, column: ColumnInfo) -> Field:
        return self.fields[column.number]


@dataclass(eq=False, slots=True)
class Filter:
    input: "Node"
    condition: Bound


@dataclass(frozen=True, slots=True)
class SortKey:
    expression: Bound
    is_descending: bool


@dataclass(eq=False, slots=True)
class Sort:
    input: "Node"
    keys: tuple[SortKey, ...]


@dataclass(eq=False, slots=True)
class Limit:
    """`number` None is no limit."""

    input: "Node"
    number: int | None
    offset: int


@dataclass(eq=False, slots=True)
class LimitBy:
    """The first `number` rows of each value of `key`. `position` is the place of a row among those of its value, from 1."""

    input: "Node"
    number: int
    key: Bound
    position: Field


@dataclass(eq=False, slots=True)
class Numbered:
    """The rows with their position in `position`, from 0."""

    input: "Node"
    position: Field


@dataclass(eq=False, slots=True)
class Extended:
    """The rows with more fields, which are computed from the others."""

    input: "Node"
    columns: tuple[tuple[Field, Bound], ...]


@dataclass(eq=False, slots=True)
class Fused:
    """The rows with `fused`: their scores fused by rank, each score best first (`is_descending`)."""

    input: "Node"
    scores: tuple[tuple[Score, bool], ...]
    fused: Field


@dataclass(eq=False, slots=True)
class Aggregation:
    """One row for each combination of the keys; without keys one row. `first` is the position of its first row."""

    input: "Node"
    keys: tuple[tuple[Field, Bound], ...]
    aggregates: tuple[tuple[Field, Aggregated], ...]
    first: Field


@dataclass(eq=False, slots=True)
class Joined:
    left: "Node"
    right: "Node"
    kind: Literal["inner", "left"]
    pairs: tuple[tuple[Bound, Bound], ...]
    at: int | None


@dataclass(eq=False, slots=True)
class Combined:
    """Rows of two queries as `fields`. `position` orders them: first appearance, left before right. `is_right` is the side."""

    operator: Literal["union", "intersect", "except"]
    is_all: bool
    left: "Rows"
    right: "Rows"
    fields: tuple[Field, ...]
    position: Field
    is_right: Field


@dataclass(eq=False, slots=True)
class Taken:
    """Rows that have been chosen from a scan, with the scores that are known by now.

    rows      int64 [N], in order; None for all rows of the scan
    scores    for each score float32 [N]; NaN is null. A Field holds scores that were fused
    position  the place of a row, for rows that are not in the order of their numbers; else None
    """

    scan: Scan
    rows: Any
    scores: dict["Score | Field", Any]
    position: Field | None = None

    @property
    def num_rows(self) -> int:
        return self.scan.source.num_rows if self.rows is None else len(self.rows)

    @property
    def is_masked(self) -> bool:
        """Whether so many rows are left that reading all of them costs less than copying these."""
        return self.rows is not None and self.position is None and len(self.rows) >= GATHERED_SHARE * self.scan.source.num_rows


Node = Scan | Filter | Sort | Limit | LimitBy | Numbered | Extended | Fused | Aggregation | Joined | Combined | Taken


@dataclass(eq=False, slots=True)
class Rows:
    """A query: its relation and its output columns by name."""

    node: Node
    columns: tuple[tuple[str, Bound], ...]


class Fields:
    """Hands out the fields and the scans of one query, each with its own number."""

    def __init__(self) -> None:
        self._number = 0
        self.scans: list[Scan] = []

    def new(self, data_type: DataType, scan: Scan | None = None, column: ColumnInfo | None = None) -> Field:
        self._number += 1
        return Field(self._number - 1, data_type, scan, column)

    def scan(self, source: Source) -> Scan:
        scan = Scan(len(self.scans), source, self.new(INT), {})
        scan.row = Field(scan.row.number, INT, scan)
        scan.fields.update({column.number: self.new(stored_type(column), scan, column) for column in source.columns})
        self.scans.append(scan)
        return scan


def apply(function: str, arguments: "tuple[Bound, ...]", data_type: DataType) -> Apply:
    """Refused (`too_complex`) where the expression has grown beyond the limits."""
    size = 1 + sum(size_of(one) for one in arguments)
    depth = 1 + max((depth_of(one) for one in arguments), default=0)
    if size > MAX_NODES:
        raise Refused("too_complex", f"With its aliases and subselects the query has more than {MAX_NODES} nodes.")
    if depth > MAX_DEPTH:
        raise Refused("too_complex", f"With its aliases and subselects the query is deeper than {MAX_DEPTH} levels.")
    return Apply(function, arguments, data_type, size, depth)


def size_of(expression: Bound) -> int:
    if isinstance(expression, InRows):
        return 1 + size_of(expression.operand)
    return expression.size if isinstance(expression, Apply) else 1


def depth_of(expression: Bound) -> int:
    if isinstance(expression, InRows):
        return 1 + depth_of(expression.operand)
    return expression.depth if isinstance(expression, Apply) else 1
