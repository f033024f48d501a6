"""The tasks `open` and `score`: rows of record batches become rows of results, or lines.

Tensors are made of plain columns at once. Rows that are not plain, and all rows when a run fails, become records, which the careful
way of `scoring` checks one by one; a run that fails is divided until the row that makes it fail is alone. n rows in, n rows out,
always.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from engine.frames import Header
from engine.tasks.arrow.cutting import answer
from engine.tasks.arrow.feeds import Feeds, plain_feeds, records_of
from engine.tasks.arrow.reading import (
    ID,
    BadArrow,
    TooMuch,
    aligned,
    check_schema,
    plain_rows,
    read_rows,
    read_schema,
    row_bytes,
    shortened,
)
from engine.tasks.arrow.results import Part, answer_schema, fault_columns, id_type, ids_of, joined, to_column
from engine.tasks.codec import Fault, Parsed, Record
from engine.tasks.families import ENDS, Reply, is_harmful
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.outputs import Form
from engine.tasks.scoring.score import Clock, answer_records, one_line, too_much
from engine.tasks.scoring.tensors import Mixed
from engine.tasks.stages import Stages

# Holds the place of the last line in the metadata of a record batch without rows; that line is shorter.
MARKER = b"#" * 1024
LAST_LINE = "last_line"
# More than the metadata of a record batch and the mark of the end take.
METADATA_BYTES = 4096


def open_stream(model: Scorer, header: Header, payload: memoryview) -> Reply:
    """Answer a schema: whether its rows can be read, and how the answer to them begins.

    returns  in the part: `fields`, the columns that are read, and `pieces`: the sizes of the schema of the answer, of the record
             batch that can end it, and of the marker in this batch; or `refused`
    """
    stages = Stages()
    try:
        schema = read_schema(aligned(payload))
        fields = check_schema(schema, model.as_tensors.fields)
    except BadArrow as error:
        return answer(stages, {"refused": str(error)})
    given = _answer_schema(model, header, schema)
    begin = memoryview(given.serialize()) if header["is_arrow_out"] else b""
    empty = pa.record_batch([pa.array([], field.type) for field in given], schema=given)
    pieces = [begin, _message(empty, {LAST_LINE: MARKER.decode()}), MARKER]
    return answer(stages, {"fields": fields, "pieces": list(map(len, pieces))}, list(pieces))


def _answer_schema(model: Scorer, header: Header, schema: pa.Schema) -> pa.Schema:
    metadata = {"bulk_id": header["bulk_id"], "version": str(model.version), "yhat_model": model.name}
    return answer_schema(id_type(schema), model.result_columns(Form.of(header)), metadata)


def _message(batch: pa.RecordBatch, metadata: dict[str, str]) -> memoryview:
    """A record batch as a message, without the schema before it. A buffer that grows would copy the batch again and again."""
    start = len(batch.schema.serialize())
    most = start + pa.ipc.get_record_batch_size(batch) + METADATA_BYTES
    memory = pa.allocate_buffer(most)
    sink = pa.FixedSizeBufferWriter(memory)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch, custom_metadata=metadata)
        end = sink.tell()
    return memoryview(memory)[start:end]


def score(model: Scorer, header: Header, payload: memoryview) -> Reply:
    """Answer one block: an Arrow stream of some record batches, of which `num_lines` rows are meant.

    header  line: number of the first row that is meant; origin: of the first row there is; is_arrow_out; row_limit_bytes
    """
    clock, stages, data = Clock(header["times"]), Stages(), aligned(payload)
    try:
        schema = read_schema(data)
        skip, count = header["line"] - header["origin"], header["num_lines"]
        if "refuse" in header and header["num_lines"] == 1:
            rows, faults = _refused(header, data, skip)
        else:
            rows = plain_rows(shortened(read_rows(data, model.as_tensors.fields, skip, count), header["row_limit_bytes"]))
            faults = _too_long(rows, header["row_limit_bytes"])
    except TooMuch:
        return too_much(stages)
    except BadArrow as error:
        return answer(stages, {"refused": str(error)})
    if not header["is_arrow_out"]:
        return answer_records(model, header, _parsed(rows, faults), lambda _: b"", clock, stages)
    return _answer_rows(model, header, schema, rows, faults, clock, stages)


def _refused(header: Header, data: pa.Buffer, skip: int) -> tuple[pa.RecordBatch, dict[int, Fault]]:
    """One row that gets an error whatever it holds: only its id is read, if it is there."""
    fault = Fault(header["refuse"], header["reason"])
    try:
        return read_rows(data, (), skip, 1), {0: fault}
    except BadArrow:
        return pa.record_batch([pa.nulls(1)], names=[""]), {0: fault}


def _too_long(rows: pa.RecordBatch, limit_bytes: int) -> dict[int, Fault]:
    sizes = row_bytes(rows)
    if sizes is None or not len(sizes) or sizes.max() <= limit_bytes:
        return {}
    reason = f"the row has more than {limit_bytes:,} bytes"
    return {int(i): Fault("line_too_long", reason) for i in np.flatnonzero(sizes > limit_bytes)}


def _parsed(rows: pa.RecordBatch, faults: dict[int, Fault]) -> Parsed:
    """The rows as records with their ids, as if they had come as lines. Of a row with a fault there is the id alone."""
    records: list[Record] = [{} for _ in range(rows.num_rows)]
    scored = [i for i in range(rows.num_rows) if i not in faults]
    for i, record in zip(scored, records_of(rows.take(pa.array(scored, pa.int64())) if faults else rows), strict=True):
        records[i] = record
    if (place := rows.schema.get_field_index(ID)) >= 0:
        for record, value in zip(records, rows.column(place).to_pylist(), strict=True):
            record[ID] = value
    return Parsed(list(records), None, faults)


def _answer_rows(
    model: Scorer,
    header: Header,
    schema: pa.Schema,
    rows: pa.RecordBatch,
    faults: dict[int, Fault],
    clock: Clock,
    stages: Stages,
) -> Reply:
    """The answer in one record batch. Its metadata have what is the same for all rows of the block."""
    form = Form.of(header)
    ids, id_faults = ids_of(rows, id_type(schema))
    faults = {**id_faults, **faults}
    parts = RowRuns(model, rows, faults, form, stages).parts()
    columns = joined(parts, model.result_columns(form), rows.num_rows)
    given = _answer_schema(model, header, schema)
    batch = pa.record_batch([ids, *columns, *fault_columns(faults, rows.num_rows)], schema=given)
    started, ended = clock.times()
    message = _message(batch, {"start_time": started.decode(), "end_time": ended.decode(), "line": str(header["line"])})
    stages.ended("encode")
    counts: Header = {"results": rows.num_rows - len(faults), "errors": len(faults)}
    return {**counts, **stages.report(), "parts": [{"size": len(message), **counts}]}, [message]


class RowRuns:
    """The runs of one block.

    faults  of rows that are not scored; those of more rows are added
    """

    def __init__(self, model: Scorer, rows: pa.RecordBatch, faults: dict[int, Fault], form: Form, stages: Stages) -> None:
        self._model = model
        self._rows = rows
        self._faults = faults
        self._form = form
        self._stages = stages
        self._columns = model.result_columns(form)

    def parts(self) -> list[Part]:
        """The results of all rows that have one."""
        wanted = np.ones(self._rows.num_rows, np.bool_)
        wanted[list(self._faults)] = False
        parts: list[Part] = []
        if (feeds := plain_feeds(self._model.inputs, self._rows)) is not None:
            plain = wanted if feeds.is_irregular is None else wanted & ~feeds.is_irregular
            parts = self._plain(feeds, np.flatnonzero(plain))
            if parts:
                wanted &= ~plain
        self._stages.ended("parse")
        for places in _divided(np.flatnonzero(wanted), self._model.max_batch_size):
            parts += self._careful(places, records_of(self._rows.take(pa.array(places))))
        return parts

    def _plain(self, feeds: Feeds, places: np.ndarray) -> list[Part]:
        """The results of these rows, from their tensors; none if a run raises, and then the careful way finds the row at fault."""
        tensors = feeds.tensors
        if len(places) < self._rows.num_rows:
            tensors = {name: array[places] for name, array in tensors.items()}
        self._stages.ended("parse")
        size, runs = self._model.max_batch_size, []
        try:
            for i in range(0, len(places), size):
                feed = {name: array[i : i + size] for name, array in tensors.items()}
                runs.append((places[i : i + size], self._arrays(feed, len(places[i : i + size]))))
            return [self._part(*run) for run in _joined_runs(runs)]
        except ENDS:
            raise
        except BaseException:  # a graph may raise anything
            return []

    def _arrays(self, prepared: Any, num_rows: int) -> list[np.ndarray]:
        arrays = self._model.result_arrays(prepared, num_rows, self._form)
        self._stages.ended("infer")
        return arrays

    def _part(self, places: np.ndarray, arrays: list[np.ndarray]) -> Part:
        columns = [to_column(column, array) for column, array in zip(self._columns, arrays, strict=True)]
        self._stages.ended("encode")
        return Part(places, columns)

    def _careful(self, places: np.ndarray, records: list[Record]) -> list[Part]:
        """The results of these rows, from their records, and the faults of those that have none."""
        kept = list(range(len(records)))
        try:
            prepared, faults = self._model.tensors(records)
            self._faults.update((int(places[i]), fault) for i, fault in faults.items())
            kept = [i for i in kept if i not in faults]
            self._stages.ended("tokenise" if self._model.is_tokenised else "parse")
            return [self._part(places[kept], self._arrays(prepared, len(kept)))] if kept else []
        except ENDS:
            raise
        except Mixed as mixed:
            groups = mixed.groups
        except BaseException as error:  # a graph or a tokenizer may raise anything, and must cost only the row that caused it
            self._stages.is_harmful |= is_harmful(error)
            if len(kept) == 1:
                self._faults[int(places[kept[0]])] = Fault("model_failed", one_line(error))
                return []
            groups = [kept[: len(kept) // 2], kept[len(kept) // 2 :]]
        return [part for group in groups for part in self._careful(places[group], [records[i] for i in group])]


def _joined_runs(runs: list[tuple[np.ndarray, list[np.ndarray]]]) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """The runs as one, which costs a fifth less to write, unless the lists in their results differ in length."""
    if len({tuple((array.shape[1:], array.dtype) for array in arrays) for _, arrays in runs}) != 1:
        return runs
    columns = zip(*(arrays for _, arrays in runs), strict=True)
    return [(np.concatenate([places for places, _ in runs]), [np.concatenate(column) for column in columns])]


def _divided(places: np.ndarray, size: int) -> Iterable[np.ndarray]:
    return (places[i : i + size] for i in range(0, len(places), size))
