"""Context: what an expression of one SELECT is bound with, and what was found in it that the SELECT itself must provide.

Knows no clause and no operator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.tasks.query import tree
from engine.tasks.query.bound import Aggregated, Bound, BoundQuery, Field, Fields, Score, Value
from engine.tasks.query.constants import value_of, vector_value
from engine.tasks.query.datatypes import FLOAT32
from engine.tasks.query.refusals import Refused
from engine.tasks.query.scopes import Scope
from engine.tasks.query.segments import Source, Vectors

# The vector of a text by a model; None is the model that is taken where the text names none.
Embedded = Mapping[tuple[str, str | None], Vectors]


@dataclass(slots=True)
class Given:
    """What one request gives to the names in its text.

    vectors     what was lifted out of the text, by index
    numbers     the same as lists of numbers, for IN
    params      list or object of the request
    embedded    vectors of the texts of embed(...); None while there are none yet, for a plan
    sources     by the name in the text
    bind        an expression in a context
    bind_query  a subquery in the scope around it
    """

    vectors: Sequence[Vectors]
    numbers: Sequence[list[Any]]
    params: Any
    embedded: Embedded | None
    sources: Mapping[str | None, Source]
    bind: "Callable[[Context, tree.Expression], Bound]"
    bind_query: "Callable[[Given, tree.Query, Scope | None], BoundQuery]"
    fields: Fields = field(default_factory=Fields)

    def parameter(self, parameter: tree.Parameter) -> Value:
        """Refused (`bad_param`) where the request gives no such value."""
        try:
            value = self.params[parameter.key]
        except (KeyError, IndexError, TypeError):
            name = parameter.key + 1 if isinstance(parameter.key, int) else f'"{parameter.key}"'
            raise Refused("bad_param", f"The request has no parameter {name}.", at=parameter.at) from None
        return value_of(value, parameter.at)

    def vector(self, lifted: tree.Lifted) -> Value:
        return vector_value(self.vectors[lifted.index], lifted.at)

    def lifted_numbers(self, lifted: tree.Lifted) -> Value:
        """The numbers as they were written; those of a vector are rounded to float32."""
        return value_of(self.numbers[lifted.index], lifted.at)


@dataclass(slots=True)
class Found:
    """What the expressions of one SELECT need from its relation.

    aggregates  aggregate -> the field that will hold it
    fused       scores that are fused by rank -> the field that will hold it
    row_number  position of a row in the source
    uses_row_number  whether an expression uses it
    """

    row_number: Field
    aggregates: dict[Aggregated, Field] = field(default_factory=dict)
    fused: dict[tuple[tuple[Score, bool], ...], Field] = field(default_factory=dict)
    uses_row_number: bool = False


@dataclass(slots=True)
class Context:
    """What one clause is bound with. `aggregates_refused` says why it cannot have aggregates; None if it can."""

    given: Given
    scope: Scope
    found: Found
    aggregates_refused: str | None = None

    def bind(self, expression: tree.Expression) -> Bound:
        return self.given.bind(self, expression)

    def inside_aggregate(self) -> "Context":
        return replace(self, aggregates_refused="An aggregate cannot stand inside an aggregate.")

    def aggregate(self, aggregated: Aggregated, at: int | None) -> Field:
        """The field for an aggregate of the rows of a group."""
        if self.aggregates_refused is not None:
            raise Refused("unsupported", self.aggregates_refused, at=at)
        if aggregated not in self.found.aggregates:
            self.found.aggregates[aggregated] = self.given.fields.new(aggregated.type)
        return self.found.aggregates[aggregated]

    def fuse(self, scores: tuple[tuple[Score, bool], ...]) -> Field:
        if scores not in self.found.fused:
            self.found.fused[scores] = self.given.fields.new(FLOAT32)
        return self.found.fused[scores]

    def row_number(self) -> Field:
        self.found.uses_row_number = True
        return self.found.row_number
