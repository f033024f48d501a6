"""README.md of a dataset: what its front matter declares, and what lists show of it. Knows no files but this text."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import yaml

from engine.tasks.preview.failures import ParserError
from engine.tasks.preview.limits import MAX_NESTING, MAX_README_BYTES
from engine.tasks.preview.lines import BOM

README = "README.md"
_FENCE = re.compile(r"---[ \t]*\r?\n")
_END = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)
_PRIVATE = re.compile(r"^[\"']?private[\"']?[ \t]*:[ \t]*[\"']?(?:true|yes|on|1)\b", re.MULTILINE | re.IGNORECASE)
_YES = frozenset({"true", "yes", "on", "1"})
_BIBTEX = re.compile(r"^```[ \t]*(?:bibtex|bib)?[ \t]*\r?\n(\s*@\w+\s*\{.*?)^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*?)[ \t#]*$", re.MULTILINE)
_PARAGRAPHS = re.compile(r"(?:[ \t]*\r?\n){2,}|\Z")
# Key of the front matter -> key of its tags in lists.
_TAG_KEYS = {
    "annotations_creators": "annotations_creators",
    "language_creators": "language_creators",
    "language": "languages",
    "languages": "languages",
    "license": "licenses",
    "licenses": "licenses",
    "multilinguality": "multilinguality",
    "size_categories": "size_categories",
    "source_datasets": "source_datasets",
    "task_categories": "task_categories",
    "task_ids": "task_ids",
}
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Readme:
    """front: what the front matter declares; body: the text below it."""

    front: Mapping[str, Any] = field(default_factory=dict)
    body: str = ""

    @property
    def is_private(self) -> bool:
        return str(self.front.get("private")).strip().lower() in _YES  # also where it is a text: hidden is safer than shown

    @property
    def is_shown(self) -> bool:
        return self.front.get("viewer") is not False


def read(file: BinaryIO) -> Readme:
    """ParserError, with the line, where the front matter is no YAML, is too long, or repeats a part of itself by an alias."""
    front, body = _split(read_text(file))
    return Readme(_parsed(front), body)


def read_text(file: BinaryIO) -> str:
    """As much of the file as is looked at: the longest front matter, and as much text again."""
    return file.read(2 * MAX_README_BYTES).removeprefix(BOM).decode(errors="replace")


def says_private(text: str) -> bool:
    """Whether a front matter that cannot be read seems to make its dataset private: then it is better hidden."""
    return _PRIVATE.search(text[:MAX_README_BYTES]) is not None


def _split(text: str) -> tuple[str, str]:
    start = _FENCE.match(text)
    if start is None:
        return "", text
    end = _END.search(text, start.end())
    front = text[start.end() : end.start() if end else len(text)]
    if len(front.encode()) > MAX_README_BYTES:
        raise ParserError(f"README.md: the front matter is longer than the limit of {MAX_README_BYTES:,} bytes")
    if end is None:
        raise ParserError("README.md, line 1: the front matter has no end")
    return front, text[end.end() :]


def _parsed(front: str) -> Mapping[str, Any]:
    try:
        _refuse_bombs(front)
        value = yaml.load(front, _LOADER)
    except yaml.MarkedYAMLError as error:
        raise _at(error.problem_mark, error.problem or error.context or "it is not YAML") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, ParserError):
            raise
        raise ParserError(f"README.md: {error}") from error
    if value is not None and not isinstance(value, dict):
        raise ParserError("README.md, line 2: the front matter is not a mapping")
    return value or {}


def _refuse_bombs(front: str) -> None:
    """Aliases make a few bytes as large as memory, and deep nesting ends a loader that calls itself."""
    depth = 0
    for event in yaml.parse(front, _LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _at(event.start_mark, "aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_NESTING:
            raise _at(event.start_mark, f"values are nested more than {MAX_NESTING} levels deep")


def _at(mark: Any, problem: str) -> ParserError:
    # Marks count from 0, and the front matter begins in the second line.
    return ParserError(f"README.md, line {mark.line + 2}: {problem}" if mark else f"README.md: {problem}")


# What lists show


def card(readme: Readme) -> dict[str, Any]:
    """As in the docstring of the family."""
    front = readme.front
    heading = _HEADING.search(readme.body)
    return {
        "title": _text(front.get("pretty_name")) or (heading[1].strip() or None if heading else None),
        "tags": _tags(front),
        "description": _text(front.get("description")) or _first_paragraph(readme.body),
        "citation": _text(front.get("citation")) or (found[1].strip() if (found := _BIBTEX.search(readme.body)) else None),
        "paperswithcode_id": _text(front.get("paperswithcode_id")),
        "license": _text(next(iter(_listed(front.get("license"))), None)),
        "viewer": readme.is_shown,
    }


def _tags(front: Mapping[str, Any]) -> list[str]:
    named = [f"{_TAG_KEYS[key]}:{value}" for key, values in front.items() if key in _TAG_KEYS for value in _listed(values)]
    return [*named, *_listed(front.get("tags"))]


def _listed(value: Any) -> list[str]:
    """The scalars of a scalar or a list."""
    values = value if isinstance(value, list) else [value]
    return [str(one) for one in values if isinstance(one, str | int | float)]


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _first_paragraph(body: str) -> str | None:
    """The first paragraph after the first heading."""
    heading = _HEADING.search(body)
    if heading is None:
        return None
    start = heading.end()
    for end in itertools.islice(_PARAGRAPHS.finditer(body, start), 20):
        text = body[start : end.start()].strip()
        start = end.end()
        if text and not text.startswith(("#", "```", "<", "![", "|")):
            return text
    return None
