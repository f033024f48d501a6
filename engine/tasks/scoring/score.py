"""The task `score`: a block of raw lines becomes a block of result lines.

It parses the records, takes their ids, builds tensors, runs the model once, encodes the outputs by column and joins everything
once. A record that cannot be scored becomes an error line in its place. When a run fails, its records are divided until the one
that makes it fail is alone. n records in, n lines out, always.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.frames import LINE_END, Buffer, Header, cut
from engine.tasks import codec
from engine.tasks.codec import Fault, Ids, Parsed, TooManyRecords
from engine.tasks.families import ENDS, Reply, is_harmful
from engine.tasks.scoring.columns import TextColumn, Texts, join_columns, joined_runs, whole
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.plain import PlainBlocks
from engine.tasks.scoring.tensors import Mixed
from engine.tasks.stages import Stages

NO_IDS = Ids([], b"")
# Faults of a whole line: their reasons continue the words `line 7 ...`.
OF_A_LINE = frozenset({"invalid_json", "not_an_object", "too_many_records"})
# When the body of a single prediction has one of these faults, there is no record in it.
UNREADABLE = frozenset({"invalid_json", "not_an_object"})


@dataclass(slots=True)
class Scored:
    """The results of a list of records.

    kept     the indices of the records that have a result, in order
    columns  the encoded results: each column has one piece for each kept record
    faults   index of each other record -> why it has no result
    """

    kept: list[int]
    columns: list[TextColumn]
    faults: dict[int, Fault]


def score(model: Scorer, header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """Answer one frame: a block of a stream (its header has a `bulk_id`), or the single records of several requests."""
    if "bulk_id" in header:
        return _score_plain(model, header, payload) or _score_stream(model, header, bytes(payload))
    return _score_singles(model, header, payload)


def _score_records(model: Scorer, records: list[Any], faults: dict[int, Fault], form: Form, stages: Stages) -> Scored:
    """Score the records that have no fault yet, in runs of at most `max_batch_size`."""
    kept = [i for i in range(len(records)) if i not in faults] if faults else list(range(len(records)))
    columns: list[TextColumn] = []
    done: list[int] = []
    stages.ended("parse")
    for start in range(0, len(kept), model.max_batch_size):
        part = kept[start : start + model.max_batch_size]
        scored = _run(model, [records[i] for i in part] if faults else records[start : start + len(part)], form, stages)
        faults.update((part[i], fault) for i, fault in scored.faults.items())
        done += [part[i] for i in scored.kept]
        columns = joined_runs(columns, scored.columns)
    return Scored(done, columns, faults)


def _run(model: Scorer, records: list[Any], form: Form, stages: Stages) -> Scored:
    """Score the records in one run; if that raises, divide them until the record that makes it raise is alone."""
    faults: dict[int, Fault] = {}
    kept = list(range(len(records)))
    try:
        feeds, faults = model.tensors(records)
        kept = [i for i in kept if i not in faults] if faults else kept
        stages.ended("tokenise" if model.is_tokenised else "parse")
        if not kept:
            return Scored([], [], faults)
        columns = model.run(feeds, len(kept), form, stages)
    except ENDS:
        raise
    except Mixed as mixed:
        return _run_groups(model, records, mixed.groups, form, stages)
    except BaseException as error:  # a graph or a tokenizer may raise anything, and must cost only the record that caused it
        stages.is_harmful |= is_harmful(error)
        if len(kept) == 1:
            faults[kept[0]] = Fault("model_failed", one_line(error))
            return Scored([], [], faults)
        return _bisect(model, records, kept, faults, form, stages)
    return Scored(kept, columns, faults)


def _bisect(model: Scorer, records: list[Any], kept: list[int], faults: dict[int, Fault], form: Form, stages: Stages) -> Scored:
    middle = len(kept) // 2
    done: list[int] = []
    columns: list[TextColumn] = []
    for half in (kept[:middle], kept[middle:]):
        scored = _run(model, [records[i] for i in half], form, stages)
        faults.update((half[i], fault) for i, fault in scored.faults.items())
        done += [half[i] for i in scored.kept]
        columns = joined_runs(columns, scored.columns)
    return Scored(done, columns, faults)


def _run_groups(model: Scorer, records: list[Any], groups: list[list[int]], form: Form, stages: Stages) -> Scored:
    """Score records that cannot share one run, a run for each group; their results come in the order of the records."""
    faults: dict[int, Fault] = {}
    pieces: dict[int, bytes] = {}
    for group in groups:
        scored = _run(model, [records[i] for i in group], form, stages)
        faults.update((group[i], fault) for i, fault in scored.faults.items())
        if scored.kept:
            pieces.update(zip([group[i] for i in scored.kept], whole(scored.columns).pieces.texts(), strict=True))
    kept = sorted(pieces)
    return Scored(kept, [TextColumn(b"", Texts(pieces[i] for i in kept))] if kept else [], faults)


def one_line(error: BaseException) -> str:
    """A reason that strangers may see: the first line, without paths, at most 200 characters."""
    text = (str(error).splitlines() or [""])[0]
    words = [word for word in text.split() if "/" not in word]
    return " ".join(words)[: codec.MAX_REASON_CHARACTERS] or type(error).__name__


# Streams


def _score_stream(model: Scorer, header: Header, raw: bytes) -> tuple[Header, list[Buffer]]:
    """Answer one block of a stream with its lines, in the order of the block; or ask for smaller blocks of the same lines."""
    clock, stages = Clock(header.get("times", "go")), Stages()
    try:
        parsed = _refuse(header, raw) if "refuse" in header else codec.parse_block(raw, header["num_lines"])
    except TooManyRecords:
        return too_much(stages)
    return answer_records(model, header, parsed, _Lines(raw, parsed), clock, stages)


def too_much(stages: Stages) -> Reply:
    """The answer to a block that asks for smaller blocks of the same lines."""
    stages.ended("parse")
    none: Header = {"results": 0, "errors": 0}
    return {**none, **stages.report(), "parts": [{"size": 0, "is_too_much": True, **none}]}, []


def answer_records(
    model: Scorer, header: Header, parsed: Parsed, line_of: Callable[[int], bytes], clock: "Clock", stages: Stages
) -> Reply:
    """The result lines of the records of a block, in their order.

    line_of  gives the text that a record came from, for its id
    """
    ids, id_faults = codec.encode_ids(parsed.records, line_of) if parsed.records else (NO_IDS, {})
    faults = {**id_faults, **parsed.faults}
    scored = _score_records(model, parsed.records, faults, Form.of(header), stages)
    lines = _StreamLines(model, header, clock)
    payload, sizes = lines.encode(parsed, ids, scored, want_sizes=header.get("want_sizes", False))
    stages.ended("encode")
    by_line = _sizes_by_line(parsed, sizes, header["num_lines"]) if header.get("want_sizes") else None
    return _stream_answer([payload], {"results": len(scored.kept), "errors": len(faults)}, by_line, stages)


def _stream_answer(lines: list[Buffer], counts: Header, sizes: list[int] | None, stages: Stages) -> Reply:
    """The answer to a block: its lines, how many of them are results and errors, and if somebody asked the bytes of each line."""
    part: Header = {"size": sum(map(len, lines)), **counts}
    if sizes is not None:
        part["line_sizes"] = sizes
    return {**counts, **stages.report(), "parts": [part]}, lines


def _score_plain(model: Scorer, header: Header, payload: memoryview) -> Reply | None:
    """Answer a plain block with the native kernel. None leaves the block to the careful way, which says what is wrong with it."""
    if model.plain is None or "refuse" in header:
        return None
    try:
        return _plain_answer(model, model.plain, header, payload)
    except ENDS:
        raise
    except BaseException:  # the careful way runs the block again, and finds the record that is at fault
        return None


def _plain_answer(model: Scorer, plain: PlainBlocks, header: Header, payload: memoryview) -> Reply | None:
    """The answer to a plain block, None for any other. Raises what the model raises, and MemoryError."""
    clock, stages = Clock(header.get("times", "go")), Stages()
    parts = plain.read(payload, header["num_lines"], model.max_batch_size)
    if parts is None:
        return None
    stages.ended("parse")
    columns = [model.run(part.tensors, len(part.ids), Form.of(header), stages) for part in parts]
    opening, middle, tail = _StreamLines(model, header, clock).around()
    lines = plain.write([[opening, *of_part, middle, part.ids, tail] for part, of_part in zip(parts, columns, strict=True)])
    stages.ended("encode")
    sizes = lines.sizes.tolist() if header.get("want_sizes") else None
    return _stream_answer([lines.text], {"results": header["num_lines"], "errors": 0}, sizes, stages)


class _Lines:
    """Gives the line that a record came from. Splits the block when the first line is asked for, which hardly ever happens."""

    def __init__(self, raw: bytes, parsed: Parsed) -> None:
        self._raw = raw
        self._index = parsed.lines
        self._lines: list[bytes] | None = None

    def __call__(self, record: int) -> bytes:
        self._lines = self._lines or self._raw.split(LINE_END)
        return self._lines[record if self._index is None else self._index[record]]


def _refuse(header: Header, raw: bytes) -> Parsed:
    """Parse records that get an error whatever they hold; only their ids will be used."""
    parsed = codec.parse_block(raw, header["num_lines"]) if raw else Parsed([None])
    for i in range(len(parsed.records)):
        parsed.faults.setdefault(i, Fault(header["refuse"], header["reason"]))
    return parsed


def _sizes_by_line(parsed: Parsed, sizes: list[int], num_lines: int) -> list[int]:
    """Bytes of output for each line of the block: the server needs them to put the lines into another order."""
    by_line = [0] * num_lines
    for line, size in zip(range(num_lines) if parsed.lines is None else parsed.lines, sizes, strict=True):
        by_line[line] += size
    return by_line


class Clock:
    """Start and end of a block. The end is the start plus a monotonic duration, so it is never before the start."""

    def __init__(self, form: str) -> None:
        self._format: Callable[[int], bytes] = iso_time if form == "iso" else go_time
        self._started_ns = time.time_ns()
        self._monotonic_ns = time.monotonic_ns()

    def times(self) -> tuple[bytes, bytes]:
        ended_ns = self._started_ns + time.monotonic_ns() - self._monotonic_ns
        return self._format(self._started_ns), self._format(ended_ns)


def go_time(time_ns: int) -> bytes:
    """Local time as Go prints it: `2016-03-30 16:52:43.825976228 -0400 EDT`."""
    local = time.localtime(time_ns // 1_000_000_000)
    zone = f"{time.strftime('%z', local)} {local.tm_zone}"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', local)}.{time_ns % 1_000_000_000:09d} {zone}".encode()


def iso_time(time_ns: int) -> bytes:
    """RFC 3339, UTC, nine digits."""
    moment = time.gmtime(time_ns // 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{time_ns % 1_000_000_000:09d}Z".encode()


class _StreamLines:
    """Encodes the lines of one block. What all lines share is encoded once; the keys are in alphabetical order."""

    def __init__(self, model: Scorer, header: Header, clock: Clock) -> None:
        started, ended = clock.times()
        self._bulk_id = b'{"bulk_id":"%b"' % header["bulk_id"].encode()
        self._end_time = b',"end_time":"%b"' % ended
        self._middle = b',"start_time":"%b","version":%d,"yhat_id":' % (started, model.version)
        self._tail = b',"yhat_model":%b}\n' % codec.dumps(model.name)
        self._number_of = _line_numbers(header)

    def encode(self, parsed: Parsed, ids: Ids, scored: Scored, *, want_sizes: bool) -> tuple[bytes, list[int]]:
        """All lines joined, and the size of each: an empty list if nobody asked and no line is an error."""
        if not scored.faults and not want_sizes:
            return self._joined(scored.columns, ids), []
        lines: list[bytes] = [b""] * len(parsed.records)
        results = self._joined(scored.columns, ids._replace(texts=[ids.texts[i] for i in scored.kept])).split(LINE_END)
        for i, line in zip(scored.kept, results, strict=False):
            lines[i] = line + LINE_END
        for i, fault in scored.faults.items():
            lines[i] = self._error(fault, parsed.lines[i] if parsed.lines is not None else i, ids.of(i))
        return b"".join(lines), list(map(len, lines))

    def around(self) -> tuple[bytes, bytes, bytes]:
        """What each result line has before its result, between the result and the id, and at its end."""
        return self._bulk_id + self._end_time + b',"result":', self._middle, self._tail

    def _joined(self, columns: list[TextColumn], ids: Ids) -> bytes:
        if not ids.texts:
            return b""
        opening, middle, tail = self.around()
        return join_columns([*columns, TextColumn(middle + ids.quote, Texts(ids.texts), ids.quote)], opening, tail)

    def _error(self, fault: Fault, line: int, yhat_id: bytes) -> bytes:
        number = self._number_of(line)
        reason = f"line {number} {fault.reason}" if fault.code in OF_A_LINE else fault.reason
        text = b',"error":%b,"line":%d' % (codec.dumps(reason), number)
        code = b',"code":"%b"' % fault.code.encode()
        return self._bulk_id + code + self._end_time + text + self._middle + yhat_id + self._tail


def _line_numbers(header: Header) -> Callable[[int], int]:
    """A function from the index of a line in the block to its number in the body."""
    if "lines" in header:
        return header["lines"].__getitem__
    first: int = header["line"]
    return lambda index: first + index


# Single records


def _score_singles(model: Scorer, header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """Score the records of several requests in one run; each gets its own answer.

    returns  a part for each request: its size, `code` if it is an error (else None), and the seconds of the run
    """
    stages = Stages()
    texts = list(map(bytes, cut(payload, header["sizes"])))
    records = list(map(codec.parse_object, texts))
    ids, faults = codec.encode_ids(records, texts.__getitem__)
    faults.update((i, record) for i, record in enumerate(records) if isinstance(record, Fault))
    if "refuse" in header:
        faults = {i: Fault(header["refuse"], header["reason"]) for i in range(len(records))} | faults
    scored = _score_records(model, records, faults, Form.of(header), stages)
    bodies = _single_bodies(model, ids, scored)
    stages.ended("encode")
    parts = [
        {"size": len(body), "code": faults[i].code if i in faults else None, "infer_s": stages.seconds.get("infer", 0.0)}
        for i, body in enumerate(bodies)
    ]
    return {"results": len(scored.kept), "errors": len(faults), **stages.report(), "parts": parts}, [b"".join(bodies)]


def _single_bodies(model: Scorer, ids: Ids, scored: Scored) -> list[bytes]:
    """One JSON object for each record, without a newline."""
    name = codec.dumps(model.name)
    bodies = [b""] * len(ids.texts)
    if scored.kept:
        middle = TextColumn(b',"version":%d,"yhat_id":' % model.version, Texts(ids.of(i) for i in scored.kept))
        joined = join_columns([*scored.columns, middle], b'{"result":', b',"yhat_model":%b}\n' % name)
        for i, body in zip(scored.kept, joined.split(LINE_END), strict=False):
            bodies[i] = body
    for i, fault in scored.faults.items():
        if fault.code in UNREADABLE:
            bodies[i] = b'{"error":%b}' % codec.dumps(f"could not decode body: {fault.reason}")
            continue
        head = b'{"code":"%b","error":%b' % (fault.code.encode(), codec.dumps(fault.reason))
        bodies[i] = head + b',"yhat_id":%b,"yhat_model":%b}' % (ids.of(i), name)
    return bodies
