"""Names of datasets: what a path and a source of a query may say. Knows no dataset."""

import re
from dataclasses import dataclass
from functools import lru_cache

from engine.errors import Code, EngineError, Kind

BAD_NAME = Code("bad_name", Kind.MALFORMED, "the name of a dataset, of one of its parts or of a column cannot be a name")

PREFIX = "hub://"
DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# A config or a split stands in README.md and in sources.
PART_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
ORG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")
# How much of a name an error repeats.
SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class SourceName:
    """What a query names as its source. `name` alone, without an org, is a directory directly under a root of the datasets."""

    org: str | None
    name: str
    config: str | None = None
    split: str | None = None
    version: int | None = None

    @property
    def title(self) -> str:
        """Of the dataset: `name` or `org/name`."""
        return f"{self.org}/{self.name}" if self.org else self.name


@lru_cache(maxsize=256)  # of the few that queries name again and again; what is kept is short, for a long text is no name
def parse_source(text: str) -> tuple[SourceName, ...]:
    """What a source may mean, in the order in which it is looked for. EngineError `bad_name` when it means nothing.

    With an org it is `org/name`, `org/name/split` or `org/name/config/split`; without one `name`, `name/split` or
    `name/config/split`; each perhaps with `@version`. So `a/b` is the dataset a/b, and where there is none, split b of a.
    """
    *before, last = text.removeprefix(PREFIX).split("/")
    last, at, version = last.partition("@")
    parts = [*before, last]
    number = int(version) if VERSION.fullmatch(version) else None
    found = tuple(one for one in (_with_org(parts, number), _without_org(parts, number)) if one is not None)
    if not found or bool(at) != (number is not None):
        raise EngineError(BAD_NAME, "A source is hub://org/name.")
    return found


def _with_org(parts: list[str], version: int | None) -> SourceName | None:
    if not 2 <= len(parts) <= 4 or not ORG_NAME.fullmatch(parts[0]):
        return None
    return _named(parts[0], parts[1:], version)


def _without_org(parts: list[str], version: int | None) -> SourceName | None:
    return _named(None, parts, version) if len(parts) <= 3 else None


def _named(org: str | None, parts: list[str], version: int | None) -> SourceName | None:
    """From the name, perhaps with a split or with config and split behind it."""
    name, *part = parts
    if not DATASET_NAME.fullmatch(name) or not all(map(PART_NAME.fullmatch, part)):
        return None
    config, split = part if len(part) == 2 else (None, part[0] if part else None)
    return SourceName(org, name, config, split, version)


def shown(text: str) -> str:
    """A name as an error repeats it."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
