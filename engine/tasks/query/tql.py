"""A text becomes a tree: lift, parse, check, translate. Trees are kept, so that a text with another vector is not parsed again.

Offsets of a tree are offsets in the lifted text, and `ParsedText.offset_as_sent` gives those in the text as sent. What `parse`
refuses has an offset in the text as sent. Knows no dataset.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from engine.tasks.query.allowed import check_tree
from engine.tasks.query.dialect import syntax_tree
from engine.tasks.query.lifting import LiftedText, Vector, lift
from engine.tasks.query.operands import check_embedded
from engine.tasks.query.outline import check_outline
from engine.tasks.query.refusals import Refused, nearest, quoted
from engine.tasks.query.translation import Translation
from engine.tasks.query.tree import Call, Constant, Parameter, Query

NUM_KEPT_TREES = 256
# Longer texts are not sent often, and a caller could fill the memory with them.
MAX_KEPT_CHARACTERS = 16 * 1024
# The parser calls itself up to ten times for each level of brackets, and the limit of 64 levels is what protects.
RECURSION_LIMIT = 10_000
# In `ParsedText.sources` and in headers, the name of the source that the request names and the text does not.
DEFAULT_SOURCE = ""

Parameters = list[Any] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Tree:
    """What is kept of a lifted text."""

    query: Query
    sources: tuple[tuple[str, int | None], ...]
    texts: tuple[Call, ...]
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A text that was read.

    query       its tree
    vectors     float32 [dim] or [rows, dim], by Lifted.index
    numbers     the same numbers as they were written, as lists of int and float, for IN
    sources     the names of datasets in order of appearance, without `hub://`, each with its first offset; DEFAULT_SOURCE is the
                dataset of the request, at the first SELECT that has no FROM
    texts       the calls of embed, in order of appearance
    parameters  the places of parameters, in order of appearance
    """

    query: Query
    vectors: tuple[Vector, ...]
    numbers: tuple[list[Any], ...]
    sources: tuple[tuple[str, int | None], ...]
    texts: tuple[Call, ...]
    parameters: tuple[Parameter, ...]
    lifted: LiftedText

    def offset_as_sent(self, at: int) -> int:
        """Offset in the text as sent, for an offset in the tree."""
        return self.lifted.offset_as_sent(at)


class Trees:
    """The trees of the texts that were read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bool], _Tree] = OrderedDict()

    def of(self, lifted: LiftedText, has_default_source: bool) -> _Tree:
        """The kept tree of a lifted text, or a new one. Refused."""
        key = (lifted.text, has_default_source)
        tree = self._kept.get(key)
        if tree is not None:
            self._kept.move_to_end(key)
            return tree
        tree = _read(lifted, has_default_source)
        if len(lifted.text) <= MAX_KEPT_CHARACTERS:
            self._kept[key] = tree
            if len(self._kept) > NUM_KEPT_TREES:
                self._kept.popitem(last=False)
        return tree


def parse(text: str, *, has_default_source: bool, trees: Trees | None = None) -> ParsedText:
    """The tree of a text. Refused, with an offset in the text as sent.

    has_default_source  whether a SELECT without FROM is accepted: the request names a dataset
    trees               to look in first, and to keep the tree in
    """
    lifted = lift(text)
    try:
        tree = (trees or Trees()).of(lifted, has_default_source)
    except Refused as refused:
        if refused.at is not None:
            refused.at = lifted.offset_as_sent(refused.at)
        raise
    return ParsedText(tree.query, lifted.vectors, lifted.numbers, tree.sources, tree.texts, tree.parameters, lifted)


def _read(lifted: LiftedText, has_default_source: bool) -> _Tree:
    check_outline(lifted.tokens, len(lifted.text))
    translation = Translation(has_default_source=has_default_source)
    with _deep_calls():
        root = syntax_tree(lifted.tokens, lifted.text)
        check_tree(root)
        query = translation.query(root)
    sources: dict[str, int | None] = {}
    for table in sorted(translation.tables, key=_offset):
        sources.setdefault(DEFAULT_SOURCE if table.name is None else table.name, table.at)
    texts = tuple(sorted(translation.embeds, key=_offset))
    return _Tree(query, tuple(sources.items()), texts, tuple(sorted(translation.parameters, key=_offset)))


@contextmanager
def _deep_calls() -> Iterator[None]:
    """More calls within calls than Python allows by default, and again as before: a reader of JSON relies on the default."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _offset(node: Any) -> int:
    return node.at or 0


def check_parameters(parsed: ParsedText, parameters: Parameters) -> None:
    """Refused, with an offset in the lifted text, unless these are just the parameters of the text."""
    keys = {parameter.key: parameter.at for parameter in reversed(parsed.parameters)}
    if len({type(key) for key in keys}) > 1:
        raise Refused("bad_param", "A text has either ? and $1, or names.", at=parsed.parameters[-1].at)
    given: dict[Any, Any] = parameters if isinstance(parameters, dict) else dict(enumerate(parameters or []))
    if given and keys and type(next(iter(given))) is not type(next(iter(keys))):
        wanted = "an object" if isinstance(next(iter(keys)), str) else "a list"
        raise Refused("bad_param", f"The parameters of this text are {wanted}.", at=parsed.parameters[0].at)
    for parameter in parsed.parameters:
        if parameter.key not in given:
            hint = nearest(str(parameter.key), [key for key in given if isinstance(key, str)])
            raise Refused("bad_param", f"{_title(parameter.key)} has no value.", at=parameter.at, hint=hint)
    unused = next((key for key in given if key not in keys), None)
    if unused is not None:
        raise Refused("bad_param", f"{_title(unused)} is not used in the text.")


def _title(key: int | str) -> str:
    return f"Parameter {key + 1}" if isinstance(key, int) else f'Parameter "{quoted(key)}"'


def embedded_text(call: Call, parameters: Parameters) -> tuple[str, str | None]:
    """The text and the model of a call of embed; None where it names no model. Refused, with an offset in the lifted text."""
    words = [_word(argument, parameters) for argument in call.arguments]
    for word in words:
        if not isinstance(word, str):
            raise Refused("bad_param", "embed takes texts.", at=call.at)
    check_embedded(words[0], call.at)
    return words[0], words[1] if len(words) > 1 else None


def _word(argument: Any, parameters: Parameters) -> Any:
    if isinstance(argument, Constant):
        return argument.value
    return parameters[argument.key]  # type: ignore[index]
