"""The block `query`: the rows that a body asks for, encoded. It may open only what the header of its frame grants.

The first frame comes when nothing but a fault can refuse the query any more: a status of HTTP cannot change after it.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from engine.frames import Buffer, Header
from engine.tasks.families import LongReply, Reply
from engine.tasks.query import asked, results, running
from engine.tasks.query.asked import Asked, RefusedText
from engine.tasks.query.database import Database, Interrupted
from engine.tasks.query.helping import Helper
from engine.tasks.query.opened import OpenedSources
from engine.tasks.query.output import Result
from engine.tasks.query.refusals import NO_MEMORY, Refused
from engine.tasks.query.stopping import Stoppable
from engine.tasks.query.tql import DEFAULT_SOURCE, Trees
from engine.tasks.stopping import Stopped, Stopping

# Of one frame. While a frame is on its way the replica waits for nothing, so this is the least that a slow reader makes us keep.
FRAME_BYTES = 1024 * 1024
# Parsed trees are cycles, and a replica collects rarely. They are young, so the youngest generation is enough.
COLLECT_AFTER = 50


class Answering:
    """Answers queries, one after the other."""

    def __init__(self, stopping: Stopping, database: Database, trees: Trees, helper: Helper) -> None:
        self._stopping = stopping
        self._helper = helper
        self._database = database
        self._trees = trees
        self._opened = OpenedSources()
        self._num_answered = 0

    def answer(self, header: Header, payload: memoryview) -> LongReply:
        """The frames of one answer.

        header   as that of `plan`, and: format, grants by name of the source, embedded ([{"text", "model", "dim"}]), body_bytes,
                 threads, waited_s, and the limits rows, result_bytes, stream_rows; perhaps expected: the sources that the server
                 took the body to name, as `Asked.has_sources` has them
        payload  the body, then the vectors of `embedded` in float32
        returns  the first frame has `format` and `is_made` (whether all rows are encoded), and for an answer of one JSON value
                 `bytes` and perhaps `rows`; each frame of lines ends with a line and has `rows`, those up to its end. Each frame
                 has `seconds` by stage. The last frame has `plan`, or `refused` with `is_told` if the lines say so themselves
        """
        with self._stopping.hearing():
            try:
                last = yield from self._answer(header, payload)
            except RefusedText as refused:
                last = _last({"refused": refused.report})
        self._num_answered += 1
        if self._num_answered % COLLECT_AFTER == 0:
            gc.collect(0)
        return last

    def _answer(self, header: Header, payload: memoryview) -> LongReply:
        clock = _Clock(header["waited_s"])
        read = asked.read(payload[: header["body_bytes"]], header, self._trees)
        read = replace(read, request=replace(read.request, format=header["format"]))
        clock.parsed()
        if "expected" in header and not read.has_sources(header["expected"]):
            return _last({"is_other": True, "seconds": clock.seconds})
        try:
            return (yield from self._run(read, header, payload, clock))
        except Refused as refused:
            return _last({"refused": read.report(refused)})
        except Interrupted:  # by a signal that came while the work before this ended
            raise Stopped from None
        except MemoryError:  # also pyarrow's
            return _last({"refused": read.report(Refused("out_of_memory", NO_MEMORY))})

    def _run(self, read: Asked, header: Header, payload: memoryview, clock: "_Clock") -> LongReply:
        grants = header["grants"].items()
        sources = {None if name == DEFAULT_SOURCE else name: self._opened.granted(grant) for name, grant in grants}
        control = Stoppable(self._stopping, self._helper if header["threads"] > 1 else None)
        if read.request.explain == "plan":
            steps, warnings = running.plan(read.parsed, read.request, sources, control, self._database)
            return (yield from _whole(results.explanation(steps, warnings), header, clock, plan=steps))
        embedded = _embedded(header["embedded"], payload[header["body_bytes"] :])
        result = running.run(read.parsed, read.request, sources, embedded, control, self._database)
        clock.result = result
        # An answer that is given up leaves rows half read, and its refusal may keep them alive: the next query needs their tables.
        with closing(result.batches):
            return (yield from _FORMATS[header["format"]](result, read, header, clock))


# Answers of one JSON value


def _explained(result: Result, read: Asked, header: Header, clock: "_Clock") -> LongReply:
    """What the query did, without its rows."""
    for _ in result.batches:
        pass
    return (yield from _whole(results.explanation(result.plan, result.warnings), header, clock, plan=result.plan))


def _json(result: Result, read: Asked, header: Header, clock: "_Clock") -> LongReply:
    request = read.request
    limits = _limits(header)
    rows, body = results.encode_json(result, as_list=request.as_list, class_labels=request.class_labels, limits=limits)
    return (yield from _whole(body, header, clock, rows=rows, plan=result.plan))


def _table(result: Result, read: Asked, header: Header, clock: "_Clock") -> LongReply:
    rows, body = results.table(result, limits=_limits(header))
    return (yield from _whole(body, header, clock, rows=rows, plan=result.plan))


def _limits(header: Header) -> results.Limits:
    return results.Limits(header["rows"], header["result_bytes"])


def _whole(body: bytes, header: Header, clock: "_Clock", *, plan: list[dict[str, Any]], rows: int | None = None) -> LongReply:
    """A body whose length is known, in frames."""
    head: Header = {"format": header["format"], "is_made": True, "bytes": len(body), "seconds": clock.seconds}
    head |= {} if rows is None else {"rows": rows}
    view = memoryview(body)
    frames = [view[start : start + FRAME_BYTES] for start in range(0, len(view), FRAME_BYTES)]
    for frame in frames[:-1]:
        yield head, [frame]
    return _last({**head, "plan": _steps(plan)}, frames[-1])


# Streams


def _lines(result: Result, read: Asked, header: Header, clock: "_Clock") -> LongReply:
    """Lines of JSON. Each frame ends with a line, so that an error line can follow it."""
    lines = results.ndjson(
        result, class_labels=read.request.class_labels, max_rows=header["stream_rows"], elapsed_ms=clock.elapsed_ms
    )
    rest, num_lines = b"", 0
    for frame, rest in _framed(lines):  # noqa: B007 - the last rest is the last frame
        if frame:
            num_lines += frame.count(b"\n")
            yield {"format": "ndjson", "is_made": False, "rows": num_lines, "seconds": clock.seconds}, [frame]
    tail: Header = {"format": "ndjson", "rows": lines.num_rows, "seconds": clock.seconds, "plan": _steps(result.plan)}
    if lines.refused is not None:
        tail |= {"refused": read.report(lines.refused), "is_told": True}
    return _last(tail, rest)


def _framed(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Frames that end with a newline, each with what follows it; an empty frame while it is too short to send."""
    rest = b""
    for piece in pieces:
        rest += piece
        end = rest.rfind(b"\n") + 1 if len(rest) >= FRAME_BYTES // 2 else 0
        frame, rest = rest[:end], rest[end:]
        yield frame, rest


def _arrow(result: Result, read: Asked, header: Header, clock: "_Clock") -> LongReply:
    """A stream of Arrow. A failure in the middle leaves it without its end."""
    rest = b""
    is_begun = False
    try:
        for piece in results.arrow(result, class_labels=read.request.class_labels, max_rows=header["stream_rows"]):
            if rest:
                is_begun = True
                yield {"format": "arrow", "is_made": False, "seconds": clock.seconds}, [rest]
            rest = piece
    except Refused as refused:
        if not is_begun:
            raise
        return _last({"refused": read.report(refused)})
    return _last({"format": "arrow", "seconds": clock.seconds, "plan": _steps(result.plan)}, rest)


_FORMATS = {"json": _json, "table": _table, "explanation": _explained, "ndjson": _lines, "arrow": _arrow}


# Parts


class _Clock:
    """The seconds of a query by stage: parse, what the result counts itself (scan, sql), and encode, which is the rest."""

    def __init__(self, waited_s: float) -> None:
        self.result: Result | None = None
        self._waited_s = waited_s
        self._started = time.perf_counter()
        self._parse_s = 0.0

    def parsed(self) -> None:
        self._parse_s = time.perf_counter() - self._started

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds so far: rows are computed while others are encoded."""
        counted = {stage: ms / 1000 for stage, ms in self.result.timings.items()} if self.result else {}
        rest = time.perf_counter() - self._started - self._parse_s - sum(counted.values())
        return {"parse": self._parse_s, **counted, "encode": max(0.0, rest)}

    def elapsed_ms(self) -> float:
        """Since the server had the body."""
        return (self._waited_s + time.perf_counter() - self._started) * 1000


def _embedded(described: list[Header], payload: memoryview) -> dict[tuple[str, str | None], Any]:
    """The vectors of texts by text and model as written, float32 [dim] each."""
    vectors = {}
    start = 0
    for one in described:
        # A copy, because the bytes may stand at any address.
        vectors[one["text"], one["model"]] = np.frombuffer(payload, dtype="<f4", count=one["dim"], offset=start).copy()
        start += 4 * one["dim"]
    return vectors


def _steps(plan: list[dict[str, Any]]) -> str:
    """The plan in short, for the log: the names of its steps."""
    return ">".join(str(step.get("step")) for step in plan)


def _last(header: Header, payload: Buffer = b"") -> Reply:
    return {"parts": [{"size": len(payload), **header}]}, [payload]
