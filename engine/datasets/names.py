"""Names of datasets: what a path and a source of a query may say. Knows no dataset."""

import re
from dataclasses import dataclass

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
    """What a query names as its source. `name` alone, without an org, is a directory directly under the root of the datasets."""

    org: str | None
    name: str
    config: str | None = None
    split: str | None = None
    version: int | None = None


def parse_source(text: str) -> SourceName:
    """`name`, `org/name`, `org/name/split` or `org/name/config/split`, each perhaps with `@version`. EngineError `bad_name`."""
    rest = text.removeprefix(PREFIX)
    *before, last = rest.split("/")
    last, at, version = last.partition("@")
    parts = [*before, last]
    if len(parts) > 4 or not all(map(PART_NAME.fullmatch, parts[2:])) or (at and not VERSION.fullmatch(version)):
        raise _no_source()
    org, name = (None, parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    if not DATASET_NAME.fullmatch(name) or (org is not None and not ORG_NAME.fullmatch(org)):
        raise _no_source()
    config, split = parts[2:] if len(parts) == 4 else (None, parts[2] if len(parts) == 3 else None)
    return SourceName(org, name, config, split, int(version) if at else None)


def _no_source() -> EngineError:
    return EngineError(BAD_NAME, "A source is hub://org/name.")


def shown(text: str) -> str:
    """A name as an error repeats it."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
