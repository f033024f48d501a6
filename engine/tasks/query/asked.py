"""What a body asks: its fields, its text as a tree, and what a replica must be given before it can answer.

Both blocks of a query read the same body here, so that they agree on every name in it. Knows no dataset.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from engine.frames import Header
from engine.tasks.query import tree
from engine.tasks.query.operands import SOURCE_PREFIX
from engine.tasks.query.refusals import Refused, position_in
from engine.tasks.query.request import Request, read_request, read_table_request
from engine.tasks.query.tql import DEFAULT_SOURCE, ParsedText, Trees, check_parameters, embedded_text, parse

EMBED = "embed"


@dataclass(frozen=True, slots=True)
class Asked:
    """One body.

    workspace  the org of names without one; None where names are whole
    """

    request: Request
    parsed: ParsedText
    workspace: str | None

    def report(self, refused: Refused) -> dict[str, Any]:
        """What the header of an answer says of a refusal. Its offset is that of a node; the report has it in the text as sent."""
        return refusal_of(refused, self.request.query, self.offset_as_sent(refused.at))

    def offset_as_sent(self, at: int | None) -> int | None:
        """The offset in the text as sent of a place in the tree."""
        return None if at is None else self.parsed.offset_as_sent(at)

    def _position(self, at: int | None) -> Header | None:
        offset = self.offset_as_sent(at)
        return None if offset is None else position_in(self.request.query, offset)

    def needs(self) -> Header:
        """What the server must find before the query can run. Refused for what no dataset can change."""
        return {
            "timeout_ms": self.request.timeout_ms,
            "format": self.request.format,
            "explain": self.request.explain,
            "sources": self._sources(),
            "texts": self._texts(),
            # For the log: the same for texts that differ in their vectors alone.
            "hash": hashlib.blake2b(self.parsed.lifted.text.encode(errors="replace"), digest_size=8).hexdigest(),
        }

    def has_sources(self, expected: list[list[str]]) -> bool:
        """Whether these are all that is needed: names in the tree, each with the name that the server knows it by."""
        needed = [[name, self._meant(name, self.offset_as_sent(at))] for name, at in self.parsed.sources]
        return needed == expected and not self.parsed.texts

    def _sources(self) -> list[Header]:
        """Each source by its name in the tree, with the name that the server knows it by."""
        return [self._source(name, at) for name, at in self.parsed.sources]

    def _source(self, name: str, at: int | None) -> Header:
        source = self._meant(name, self.offset_as_sent(at))
        return {"name": name, "source": source, "position": self._position(at) if name != DEFAULT_SOURCE else None}

    def _meant(self, name: str, offset: int | None) -> str:
        """The name that the server knows a source by."""
        written = name if name != DEFAULT_SOURCE else self.request.dataset or ""
        is_whole = self.workspace is None or _is_hub(self.request.query, offset)
        return written.removeprefix(SOURCE_PREFIX) if is_whole else f"{self.workspace}/{written}"

    def _texts(self) -> list[Header]:
        """The distinct texts to embed, by text and model. Refused if one of them is not a text, or is too long."""
        columns = self._compared_columns() if self.parsed.texts else {}
        texts: dict[tuple[str, str | None], Header] = {}
        for call in self.parsed.texts:
            text, model = embedded_text(call, self.request.params)
            needed = {"text": text, "model": model, "column": columns.get(call), "position": self._position(call.at)}
            texts.setdefault((text, model), needed)
        return list(texts.values())

    def _compared_columns(self) -> dict[tree.Call, str]:
        """For each call of `embed`, the name of the column that stands beside it in another call or in a difference."""
        columns: dict[tree.Call, str] = {}
        for node in tree.nodes(self.parsed.query):
            pair = _neighbours(node)
            names = [one.name for one in pair if isinstance(one, tree.Column)]
            calls = [one for one in pair if isinstance(one, tree.Call) and one.name == EMBED]
            for call in calls if names else ():
                columns.setdefault(call, names[0])
        return columns


def _neighbours(node: Any) -> tuple[Any, ...]:
    """What stands beside each other in a call or around an operator."""
    if isinstance(node, tree.Call):
        return node.arguments
    return (node.left, node.right) if isinstance(node, tree.Binary) else ()


def read(body: memoryview, header: Header, trees: Trees) -> Asked:
    """The body of a request. RefusedText, whose report is whole: what is wrong with the body or with its text.

    header  workspace, max_timeout_ms, text_bytes
    trees   of the texts that were read last
    """
    workspace = header["workspace"]
    try:
        request = read_request(body) if workspace is None else read_table_request(body)
        _check(request, header)
    except Refused as refused:
        raise RefusedText(refusal_of(refused, "", None)) from None
    try:
        parsed = parse(request.query, has_default_source=request.dataset is not None, trees=trees)
    except Refused as refused:
        raise RefusedText(refusal_of(refused, request.query, refused.at)) from None
    asked = Asked(request, parsed, workspace)
    try:
        check_parameters(parsed, request.params)
    except Refused as refused:
        raise RefusedText(asked.report(refused)) from None
    return asked


class RefusedText(Exception):
    """A body or its text is refused.

    report  for the header of the answer
    """

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report["message"])
        self.report = report


def _check(request: Request, header: Header) -> None:
    """What the settings of the server say of a body. Refused."""
    longest = header["max_timeout_ms"]
    if request.timeout_ms is not None and not 1 <= request.timeout_ms <= longest:
        raise Refused("invalid_parameter", f"timeout_ms is a whole number from 1 to {longest}.")
    if len(request.query) > header["text_bytes"] or len(request.query.encode(errors="replace")) > header["text_bytes"]:
        raise Refused("body_too_large", f"The text of a query has at most {header['text_bytes']} bytes.")


def refusal_of(refused: Refused, text: str, offset: int | None) -> dict[str, Any]:
    """A report with the place in the text as sent."""
    return Refused(refused.code, refused.message, at=offset, hint=refused.hint).report(text)


def _is_hub(text: str, offset: int | None) -> bool:
    """Whether the name of a source that stands there is whole."""
    return offset is not None and text[offset : offset + len(SOURCE_PREFIX) + 1].lstrip("\"'").startswith(SOURCE_PREFIX)
