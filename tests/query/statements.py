"""The statements in tests/data/: tql.yaml, each with what it must answer, and hostile.txt, all of which must be refused.

Knows the form of these files. Knows nothing of servers.
"""

import functools
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.serving import ROOT

DATA = ROOT / "tests" / "data"
MARK = "¦"
# Floating-point numbers of an answer may differ by this much, relative to the larger one or to 1.
SAME = 1e-6

Row = list[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """One of the small datasets: the types of its columns and its rows, which lack no column."""

    name: str
    columns: dict[str, str]
    rows: list[dict[str, Any]]
    words: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """The options of its upload: what the rows do not tell by themselves."""
        typed = [f"{name}:{dtype}" for name, dtype in self.columns.items() if dtype.startswith(("vector", "timestamp"))]
        classes = [name for name, dtype in self.columns.items() if dtype == "class"]
        options = {"types": ",".join(typed), "class_labels": ",".join(classes), "words": self.words}
        return {name: value for name, value in options.items() if value}


@dataclass(frozen=True, slots=True)
class Statement:
    """One entry of tql.yaml. `span` is the range of offsets that the place of a refusal must lie in, both ends in, or None."""

    says: str
    query: str
    body: dict[str, Any]
    tensors: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    span: tuple[int, int] | None = None
    hint: str | None = None
    message: str | None = None
    duckdb: str | None = None


KEYS = {"says", "query", "in", "with", "tensors", "rows", "refused", "hint", "message", "duckdb"}


@functools.cache
def _file() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DATA / "tql.yaml").read_text(encoding="utf-8"))
    return found


def tables() -> dict[str, Table]:
    """The datasets of tql.yaml by name."""
    return {name: Table(name, one["columns"], one["rows"], one.get("words")) for name, one in _file()["datasets"].items()}


def statements() -> list[Statement]:
    """The statements of tql.yaml, in order."""
    return [_statement(entry) for entry in _file()["statements"]]


def _statement(entry: dict[str, Any]) -> Statement:
    if unknown := entry.keys() - KEYS:
        raise ValueError(f"{entry['says']}: unknown keys {unknown}")
    text, span = _unmarked(entry["query"])
    body = {"query": text, **entry.get("with", {})}
    if "in" in entry:
        body["dataset"] = f"admin/{entry['in']}"
    codes = entry.get("refused", [])
    codes = [codes] if isinstance(codes, str) else codes
    kept = {key: entry[key] for key in ("tensors", "rows", "hint", "message", "duckdb") if key in entry}
    return Statement(entry["says"], text, body, codes=codes, span=span, **kept)


def _unmarked(text: str) -> tuple[str, tuple[int, int] | None]:
    """The text without its marks, and the range of offsets that they mark."""
    first, mark, rest = text.partition(MARK)
    if not mark:
        return text, None
    second, mark, third = rest.partition(MARK)
    return first + second + third, (len(first), len(first) + len(second) if mark else len(first))


def same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal: whole numbers and texts exactly, floating-point numbers within SAME."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=SAME, abs_tol=SAME)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    return bool(found == expected)


# Hostile statements

# In hostile.txt a line is a statement, `##` begins a comment, and these stand for what a line cannot hold or would be long with:
#   ⟪n⟫ ⟪t⟫ ⟪0⟫     a newline, a tab, a NUL
#   ⟪900× text⟫     the text 900 times; ⟪i⟫ in it counts from 0
#   ⟪file⟫ ⟪dir⟫    the path of a file that must never be read, and of its folder
REPEATED = re.compile(r"⟪(\d+)× ([^⟪⟫]*(?:⟪i⟫[^⟪⟫]*)*)⟫")


def hostile(canary: Path) -> list[str]:
    """The statements of hostile.txt. `canary` is the file that must never be read."""
    lines = (DATA / "hostile.txt").read_text(encoding="utf-8").splitlines()
    return [_expanded(line, canary) for line in lines if line and not line.startswith("##")]


def _expanded(line: str, canary: Path) -> str:
    signs = {"⟪n⟫": "\n", "⟪t⟫": "\t", "⟪0⟫": "\0", "⟪file⟫": str(canary), "⟪dir⟫": str(canary.parent)}
    for sign, text in signs.items():
        line = line.replace(sign, text)
    while found := REPEATED.search(line):
        repeated = "".join(found[2].replace("⟪i⟫", str(i)) for i in range(int(found[1])))
        line = line[: found.start()] + repeated + line[found.end() :]
    if "⟪" in line:
        raise ValueError(f"not a sign of hostile.txt: {line[line.index('⟪') :][:40]}")
    return line


def ndjson_of(table: Table) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in table.rows)
