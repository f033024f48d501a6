"""The task `matching`: the numbers of the rows of a dataset for which a condition holds, for a deletion.

The condition is read as the end of a SELECT, and the tree shows that it was nothing more than a condition.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from engine.frames import Header
from engine.tasks.families import Reply
from engine.tasks.query import running, tree
from engine.tasks.query.asked import RefusedText
from engine.tasks.query.database import Database, Interrupted
from engine.tasks.query.refusals import Refused
from engine.tasks.query.request import CONDITION_START, Request, read_condition
from engine.tasks.query.score_calls import METRICS
from engine.tasks.query.segments import Source
from engine.tasks.query.stopping import Stoppable
from engine.tasks.query.tql import ParsedText, check_parameters, parse
from engine.tasks.stopping import Stopped, Stopping

SCORES = {*METRICS, "bm25_similarity", "rrf", "embed"}


class Matching:
    """Finds rows, for one deletion after the other."""

    def __init__(self, stopping: Stopping, database: Database) -> None:
        self._stopping = stopping
        self._database = database

    def answer(self, header: Header, payload: memoryview) -> Reply:
        """The answer to one body.

        header   grant: of the dataset; text_bytes: limit of the server
        payload  the body, {"where", "params"}
        returns  {"rows"}, with the numbers of the rows as int64 little-endian, ascending; or {"refused"}
        """
        try:
            rows = self._rows(header, payload)
        except RefusedText as refused:
            return _answer({"refused": refused.report}, b"")
        except MemoryError:  # also pyarrow's
            refused_memory = Refused("out_of_memory", "The condition needs more memory than a query may have.")
            return _answer({"refused": refused_memory.report()}, b"")
        return _answer({"rows": len(rows)}, rows.astype("<i8", copy=False).tobytes())

    def _rows(self, header: Header, payload: memoryview) -> "np.ndarray[Any, np.dtype[np.int64]]":
        try:
            request = read_condition(payload)
        except Refused as refused:
            raise RefusedText(refused.report()) from None
        condition = _read(request, header["text_bytes"])
        with self._stopping.hearing():
            try:
                sources: dict[str | None, Source] = {None: Source.granted(header["grant"])}
                result = running.run(condition.parsed, request, sources, {}, Stoppable(self._stopping), self._database)
                batches = [batch.column(0) for batch in result.batches]
            except Refused as refused:
                raise RefusedText(condition.report(refused)) from None
            except Interrupted:  # by a signal that came while the work before this ended
                raise Stopped from None
        return np.sort(pa.chunked_array(batches, type=pa.int64()).to_numpy())


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as the tree that it was read to."""

    request: Request
    parsed: ParsedText

    def report(self, refused: Refused) -> dict[str, Any]:
        """The refusal of a node of the tree, with its place in the condition as it was sent."""
        at = None if refused.at is None else self.parsed.offset_as_sent(refused.at)
        return _report(self.request, Refused(refused.code, refused.message, at=at, hint=refused.hint))


def _read(request: Request, text_bytes: int) -> Condition:
    """RefusedText."""
    try:
        if len(request.query.encode()) > text_bytes:
            raise Refused("body_too_large", f"A condition has at most {text_bytes} bytes.")
        condition = Condition(request, parse(request.query, has_default_source=True))
    except Refused as refused:
        raise RefusedText(_report(request, refused)) from None
    try:
        check_parameters(condition.parsed, request.params)
        _check(condition.parsed.query)
    except Refused as refused:
        raise RefusedText(condition.report(refused)) from None
    return condition


def _report(request: Request, refused: Refused) -> dict[str, Any]:
    """A report whose place counts from the start of the condition; without one where that is before it."""
    at = None if refused.at is None else refused.at - len(CONDITION_START)
    at = at if at is None or at >= 0 else None
    return Refused(refused.code, refused.message, at=at, hint=refused.hint).report(request.query[len(CONDITION_START) :])


def _check(query: tree.Query) -> None:
    """Refused for a text that is more than a condition, or whose condition needs more than the row itself."""
    plain = tree.Select((), tree.Table(None))
    extra = [one.name for one in fields(tree.Select) if one.name not in ("outputs", "where", "at")]
    if not isinstance(query, tree.Select) or any(getattr(query, name) != getattr(plain, name) for name in extra):
        raise Refused("unsupported", "where is a condition and nothing else.", hint="Leave out every other clause.")
    for node in tree.nodes(query.where):
        if isinstance(node, tree.InQuery):
            raise Refused("unsupported", "A deletion takes no subselect.", at=node.at, hint="List the values.")
        if isinstance(node, tree.Call) and node.name in SCORES:
            raise Refused("unsupported", "A deletion takes no scores.", at=node.at)


def _answer(header: Header, payload: bytes) -> Reply:
    return {"parts": [{"size": len(payload), **header}]}, [payload]
