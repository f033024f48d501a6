"""One small dataset with a column of every type, for the tests of running queries."""

import datetime
from pathlib import Path
from typing import Any

from engine.tasks.query.segments import Source
from tests.engine.tasks.query.stored import columns_of, store

COLUMNS = columns_of(
    text="string words",
    v="vector 3",
    genre="class fiction news",
    n="int64",
    x="float64",
    tags="list<string>",
    nums="list<float64>",
    meta="json",
    at="timestamp",
    day="date",
    ok="bool",
)
BIG = 2**60


def utc(year: int, month: int, day: int) -> datetime.datetime:
    return datetime.datetime(year, month, day, tzinfo=datetime.UTC)


HONEY: dict[str, Any] = {
    "text": "Honey never spoils",
    "v": [1, 0, 0],
    "genre": "fiction",
    "n": 1,
    "x": 1.5,
    "tags": ["a", "b"],
    "nums": [1.0, 0.0, 3.0],
    "meta": '{"doc":"a.md","k":[1,2,"z"],"n":5}',
    "at": utc(2024, 1, 1),
    "day": datetime.date(2024, 1, 1),
    "ok": True,
}
BEES: dict[str, Any] = {
    "text": "Bees make honey",
    "v": [0.9, 0.1, 0],
    "genre": "news",
    "n": 2,
    "tags": [],
    "nums": [],
    "meta": '{"doc":"b.md","k":null}',
    "at": utc(2024, 2, 1),
    "ok": False,
}
SKY: dict[str, Any] = {
    "text": "The sky is blue",
    "v": [0, 1, 0],
    "genre": "news",
    "n": 3,
    "x": -2.0,
    "day": datetime.date(2023, 5, 5),
}
NULLS: dict[str, Any] = {"x": float("nan"), "tags": ["c"], "nums": [2.0], "meta": "{}", "ok": True}
ZERO: dict[str, Any] = {
    "text": "zero",
    "v": [0, 0, 0],
    "genre": "fiction",
    "n": BIG,
    "x": 0.0,
    "tags": ["a"],
    "nums": [-1.0, 5.0],
    "meta": '{"doc":"a.md"}',
    "ok": True,
}


def facts(folder: Path) -> Source:
    """Five rows in two segments."""
    return store(folder, COLUMNS, [HONEY, BEES, SKY, NULLS, ZERO], cuts=2)
