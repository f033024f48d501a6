"""Texts of queries for the tests of their parts."""

from typing import Any

import pytest

from engine.tasks.query.refusals import Refused
from engine.tasks.query.tql import parse
from engine.tasks.query.tree import Output


def tree(text: str) -> Any:
    return parse(text, has_default_source=True).query


def expression(text: str) -> Any:
    [output] = tree(f"select {text}").outputs
    assert isinstance(output, Output)
    return output.expression


def refusal(text: str, *, has_default_source: bool = True) -> Refused:
    """The refusal of a text; if it has a mark, the place is there."""
    mark = text.find("¦")
    text = text.replace("¦", "")
    with pytest.raises(Refused) as caught:
        parse(text, has_default_source=has_default_source)
    if mark >= 0:
        assert caught.value.at == mark
    return caught.value
