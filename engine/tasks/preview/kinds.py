"""Kinds: what the values of one field are, gathered value by value, down into lists and objects. Decides no types of columns."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.tasks.preview.limits import MAX_COLUMNS, MAX_NESTING
from engine.tasks.preview.values import INTEGER, NUMBER, TRUTHS, integer, is_small

BOOL, INT, LONG, FLOAT, TEXT, BYTES, LIST, OBJECT, OTHER = (
    "bool",
    "int",
    "long",
    "float",
    "text",
    "bytes",
    "list",
    "object",
    "other",
)
_BY_TYPE = {bool: BOOL, float: FLOAT, str: TEXT, bytes: BYTES, list: LIST, dict: OBJECT}


@dataclass(slots=True)
class Kinds:
    """What was seen.

    found   kinds of all values; `long` is an integer that 64 bits do not hold
    items   of the values in lists
    fields  of the values in objects, by name
    """

    found: set[str] = field(default_factory=set)
    items: "Kinds | None" = None
    fields: "dict[str, Kinds]" = field(default_factory=dict)

    def see(self, value: Any, depth: int = MAX_NESTING) -> None:
        """Count a value in; null says nothing."""
        if value is None:
            return
        kind = _BY_TYPE.get(type(value)) or (OTHER if type(value) is not int else INT if is_small(value) else LONG)
        if depth == 0 and kind in (LIST, OBJECT):
            kind = OTHER
        self.found.add(kind)
        if kind == LIST:
            self.items = self.items or Kinds()
            for one in value:
                self.items.see(one, depth - 1)
        elif kind == OBJECT:
            for name, one in value.items():
                if name in self.fields or len(self.fields) < MAX_COLUMNS:
                    self.fields.setdefault(name, Kinds()).see(one, depth - 1)

    def see_text(self, text: str | None) -> None:
        """Count a cell of csv in, as what it can be read as."""
        if text is None:
            return
        if INTEGER.match(text):
            self.found.add(LONG if integer(text) is None else INT)
        elif NUMBER.match(text):
            self.found.add(FLOAT)
        else:
            self.found.add(BOOL if text in TRUTHS else TEXT)


def feature_of(kinds: Kinds | None) -> Any:
    """The modern feature that fits the values: an object for objects, `json` for a mixture."""
    found = kinds.found if kinds else set()
    if found == {LIST} and kinds is not None:
        return {"_type": "List", "feature": feature_of(kinds.items)}
    if found == {OBJECT} and kinds is not None and kinds.fields:
        return {name: feature_of(one) for name, one in kinds.fields.items()}
    return value_feature(_word(found))


def _word(found: Iterable[str]) -> str:
    """The Arrow word for scalars of these kinds in lists and objects. No word is right for integers beyond 64 bits."""
    words = {
        frozenset(): "null",
        frozenset({BOOL}): "bool",
        frozenset({INT}): "int64",
        frozenset({FLOAT}): "float64",
        frozenset({INT, FLOAT}): "float64",
        frozenset({TEXT}): "string",
        frozenset({BYTES}): "binary",
    }
    return words.get(frozenset(found), "json")


def value_feature(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}
