"""What replicas of the pool `jobs` do with the files of datasets: the tasks of the family `ingestion`, and what they refuse.

engine/tasks/ingestion/__init__.py says what each task is asked with and gives. Knows no HTTP and no catalogue.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.columns import Column
from engine.datasets.versions import StoredSegment
from engine.disk import disk_full
from engine.errors import INTERNAL, INVALID_PARAMETER, Code, DetailedError, Kind, by_word
from engine.frames import Buffer
from engine.jobs import TIME_LIMIT_S
from engine.replicas.blocks import Answer, Arguments, Task
from engine.replicas.pool import Pool

BAD_ROW = Code("bad_row", Kind.INVALID, "a line of the body cannot be a row of the dataset; `line` and `column` say where")
TYPE_MISMATCH = Code("type_mismatch", Kind.MALFORMED, "a value or a column has another type than is needed")
REFUSALS = by_word(BAD_ROW, TYPE_MISMATCH, INVALID_PARAMETER)

# The first death under a block may be an accident.
DEATHS = 2
# About 1 MiB of lines, or their vectors: less than a second.
BLOCK_LIMIT_S = 60.0
# Up to 1,000,000 rows, with their word index, or all rows of an upload.
SEGMENT_LIMIT_S = 600.0


def _task(name: str, limit_s: float, max_deaths: int = DEATHS) -> Task:
    return Task(name, family="ingestion", pool="jobs", time_limit_s=limit_s, max_deaths=max_deaths)


INGEST, VECTORS = _task("ingest", BLOCK_LIMIT_S), _task("vectors", BLOCK_LIMIT_S)
SEAL, CUT = _task("seal", SEGMENT_LIMIT_S), _task("cut", SEGMENT_LIMIT_S)
# Jobs do these, and the queue counts deaths. A word index of 60,000,000 words of natural texts takes a quarter of the memory.
UPKEEP_BYTES = 2 * 1024 * 1024 * 1024
MEND, MERGE = (replace(_task(name, TIME_LIMIT_S["slow"], 1), memory_bytes=UPKEEP_BYTES) for name in ("mend", "merge"))
# After requests, and with what else the server asks for by itself.
UPKEEP_PRIORITY = 1


async def ask(jobs: Pool, task: Task, arguments: Arguments, buffers: Sequence[Buffer] = ()) -> Answer:
    """The answer of a replica. EngineError as `answered`; TaskFailed, `no_instances`."""
    return answered(await jobs.run(task, arguments, buffers))


def answered(answer: Answer) -> Answer:
    """An answer that has what was asked for. EngineError: `disk_full`; DetailedError for what the replica refuses."""
    if "full" in answer.header:
        raise disk_full()
    if refused := answer.header.get("refused"):
        details = {key: refused[key] for key in ("line", "column") if refused.get(key) is not None}
        raise DetailedError(REFUSALS.get(refused["code"], INTERNAL), refused["message"], details)
    return answer


def columns_for_task(columns: Iterable[Column]) -> list[dict[str, Any]]:
    return [column.as_json() for column in columns]


def segments_for_task(segments: Iterable[StoredSegment]) -> list[dict[str, Any]]:
    return [{"id": segment.id, "rows": segment.num_rows} for segment in segments]


def staged_folder(staging: Path, segment: StoredSegment) -> Path:
    """Where a task has put a new segment."""
    return staging / "segments" / segment.id
