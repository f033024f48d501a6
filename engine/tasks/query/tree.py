"""The tree of a query as it was written: small dataclasses of our own, with the place in the text that each came from.

tql.py makes the tree out of a text and binding.py gives its names a meaning. Nothing after tql.py sees the parser's own tree. Knows
no dataset, no column type and no SQL.

`at` is the offset of the first character of what the user wrote: in characters, from 0, in the text without its lifted vectors
(lifting); None where no place is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

# Expressions


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, a string, true, false or null that stands in the text. DATE 'Y-M-D' is a Cast of a Constant."""

    value: int | float | str | bool | None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A place for a value of `params`: by its position from 0 (`?`, `$1`), or by its name (`:name`, `$name`)."""

    key: int | str
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Lifted:
    """A vector or matrix of numbers, `ARRAY[...]`, that was lifted out of the text: its index in `ParsedText.vectors`."""

    index: int
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Column:
    """A name, or `table.name`; `table` is an alias, or the name of a source."""

    name: str
    table: str | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function by its name in lower case; aliases of functions are not resolved yet. `count(*)` has `is_star`."""

    name: str
    arguments: "tuple[Expression, ...]" = ()
    is_distinct: bool = False
    is_star: bool = False
    at: int | None = field(default=None, compare=False)


UnaryOperator = Literal["-", "not"]
# "and" and "or" stand in All and Any; "<>" is written "!=", "==" is written "=".
BinaryOperator = Literal["=", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "^", "||"]


@dataclass(frozen=True, slots=True)
class Unary:
    operator: UnaryOperator
    operand: "Expression"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    operator: BinaryOperator
    left: "Expression"
    right: "Expression"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Junction:
    """A chain of AND, or a chain of OR, of at least two conditions."""

    operator: Literal["and", "or"]
    conditions: "tuple[Expression, ...]"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Between:
    """`operand BETWEEN low AND high`; NOT BETWEEN is a Unary around it."""

    operand: "Expression"
    low: "Expression"
    high: "Expression"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class In:
    """`operand IN (...)`: among `choices`; a single Parameter, Lifted or Array stands for a list. NOT IN is a Unary around it."""

    operand: "Expression"
    choices: "tuple[Expression, ...]"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class InQuery:
    """`operand IN (SELECT one column ...)`; NOT IN is a Unary around it."""

    operand: "Expression"
    query: "Query"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class IsNull:
    """`operand IS NULL`; IS NOT NULL is a Unary around it."""

    operand: "Expression"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Like:
    """`operand LIKE pattern`, or ILIKE with `ignores_case`."""

    operand: "Expression"
    pattern: "Expression"
    ignores_case: bool
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Case:
    """`CASE WHEN condition THEN value ... ELSE otherwise END`; with an operand, `CASE operand WHEN value THEN ...`."""

    operand: "Expression | None"
    branches: "tuple[tuple[Expression, Expression], ...]"
    otherwise: "Expression | None"
    at: int | None = field(default=None, compare=False)


CastType = Literal["int", "bigint", "float", "double", "text", "boolean", "date", "timestamp"]


@dataclass(frozen=True, slots=True)
class Cast:
    operand: "Expression"
    type: CastType
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Interval:
    """`INTERVAL '3' DAY`: whole numbers of one unit."""

    number: int
    unit: Literal["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "year"]
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """`start:stop` inside brackets, half open; a missing end is None."""

    start: "Expression | None"
    stop: "Expression | None"


@dataclass(frozen=True, slots=True)
class Index:
    """`operand[i]`, `operand[i:j]`, `operand[:,0]`, `operand['key']`; one entry for each part between commas."""

    operand: "Expression"
    parts: "tuple[Expression | Slice, ...]"
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Array:
    """An `ARRAY[...]` that holds anything but numbers alone, such as strings or parameters."""

    items: "tuple[Expression, ...]"
    at: int | None = field(default=None, compare=False)


Expression = (
    Constant
    | Parameter
    | Lifted
    | Column
    | Call
    | Unary
    | Binary
    | Junction
    | Between
    | In
    | InQuery
    | IsNull
    | Like
    | Case
    | Cast
    | Interval
    | Index
    | Array
)

# Queries


@dataclass(frozen=True, slots=True)
class Star:
    """`*`, or `t.*`."""

    table: str | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Output:
    """One expression of a select list, with its alias if it has one."""

    expression: Expression
    alias: str | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Table:
    """A dataset in FROM: the name as written, without `hub://`. None stands for the `dataset` of the request."""

    name: str | None
    alias: str | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Subquery:
    """A SELECT in parentheses in FROM. WITH is expanded to this."""

    query: "Query"
    alias: str | None = None
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Join:
    """`INNER JOIN` or `LEFT JOIN`: the equalities of ON, each a pair of expressions, or the columns of USING."""

    kind: Literal["inner", "left"]
    right: "Table | Subquery"
    on: tuple[tuple[Expression, Expression], ...] = ()
    using: tuple[str, ...] = ()
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Order:
    """One key of ORDER BY. A Constant that is a whole number means an output position, counted from 1."""

    expression: Expression
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class LimitBy:
    """`LIMIT n BY column`: after ordering, the first n rows of each value."""

    number: Constant | Parameter
    column: Column


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT. Where a text has no FROM, the source is a Table without a name."""

    outputs: tuple[Output | Star, ...]
    source: Table | Subquery
    joins: tuple[Join, ...] = ()
    where: Expression | None = None
    group_by: tuple[Expression, ...] = ()
    having: Expression | None = None
    order_by: tuple[Order, ...] = ()
    limit_by: LimitBy | None = None
    limit: Constant | Parameter | None = None
    offset: Constant | Parameter | None = None
    is_distinct: bool = False
    at: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Combination:
    """Two queries joined by UNION, INTERSECT or EXCEPT; ORDER BY, LIMIT and OFFSET order and cut the rows of both."""

    operator: Literal["union", "intersect", "except"]
    is_all: bool
    left: "Query"
    right: "Query"
    order_by: tuple[Order, ...] = ()
    limit: Constant | Parameter | None = None
    offset: Constant | Parameter | None = None
    at: int | None = field(default=None, compare=False)


Query = Select | Combination


def nodes(root: Any) -> Iterator[Any]:
    """Every node of a tree, in no particular order."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            waiting.extend(node)
        elif is_dataclass(node):
            yield node
            waiting.extend(getattr(node, one.name) for one in fields(node))
