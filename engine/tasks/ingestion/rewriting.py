"""The tasks that read segments again: `mend` makes missing sidecars, `merge` joins neighbours, `cut` deletes rows."""

import shutil
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.frames import Header
from engine.tasks.ingestion.segment_files import Sidecars, fsync, names_of, pieces, present, read_rows, with_columns, write_segments
from engine.tasks.query.segments import PAYLOAD, ColumnInfo

# Sidecars are made in here, inside the folder of their segment, and moved when they are whole.
_UNFINISHED = ".mending"


def mend(header: Header) -> Header:
    """The docstring of the family has header and answer."""
    folder = Path(header["folder"])
    columns = present(folder, map(ColumnInfo.from_json, header["columns"]))
    missing = [name for name in names_of(columns) if not (folder / name).exists()]
    beside = folder / _UNFINISHED
    shutil.rmtree(beside, ignore_errors=True)
    if not missing:
        return {"made": []}
    beside.mkdir()
    sidecars = Sidecars(beside, columns, missing)
    for piece in read_rows(folder, columns):
        sidecars.write(piece)
    sidecars.close((beside if PAYLOAD in missing else folder) / PAYLOAD)
    for name in missing:
        fsync(beside / name)
        (beside / name).replace(folder / name)
    beside.rmdir()
    fsync(folder)
    return {"made": missing}


def merge(header: Header) -> Header:
    """The docstring of the family has header and answer."""
    staging = _emptied(header)
    folders = [Path(header["folder"]) / one["id"] for one in header["segments"]]
    infos = [ColumnInfo.from_json(one) for one in header["columns"]]
    numbers = {column.number for folder in folders for column in present(folder, infos)}
    columns = [column for column in infos if column.number in numbers]
    rows = (piece for folder in folders for piece in _rows(folder, columns))
    return {"segments": write_segments(staging, columns, pieces(rows))}


def _emptied(header: Header) -> Path:
    """The staging folder, without the segments of an attempt that was cut short."""
    staging = Path(header["staging"])
    shutil.rmtree(staging / "segments", ignore_errors=True)
    return staging


def _rows(folder: Path, columns: list[ColumnInfo]) -> Iterator[pa.Table]:
    """The rows of a segment with exactly these columns; one that it lacks is null."""
    for piece in read_rows(folder, present(folder, columns)):
        yield from with_columns(dict(zip(piece.column_names, piece.columns, strict=True)), piece.num_rows, columns)


def cut(header: Header, payload: memoryview) -> Header:
    """The docstring of the family has header and answer. ValueError for row numbers that are not there: a fault of ours."""
    staging = _emptied(header)
    rows = np.frombuffer(payload, dtype="<i8").astype(np.int64)
    starts = [0, *accumulate(one["rows"] for one in header["segments"])]
    if len(rows) and (rows[0] < 0 or rows[-1] >= starts[-1] or (np.diff(rows) <= 0).any()):
        raise ValueError("row numbers do not ascend within the version")
    infos = [ColumnInfo.from_json(one) for one in header["columns"]]
    segments: list[Header] = []
    for one, (start, end) in zip(header["segments"], pairwise(starts), strict=True):
        local = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
        if not len(local):
            segments.append({"id": one["id"], "rows": one["rows"], "was": None})
        elif len(local) < one["rows"]:
            folder = Path(header["folder"]) / one["id"]
            columns = present(folder, infos)
            kept = write_segments(staging, columns, pieces(_without(read_rows(folder, columns), local)))
            segments += [{**new, "was": one["id"]} for new in kept]
    return {"deleted": len(rows), "segments": segments}


def _without(rows: Iterator[pa.Table], deleted: np.ndarray) -> Iterator[pa.Table]:
    """The pieces without some rows, which are counted through all of them."""
    start = 0
    for piece in rows:
        is_kept = np.ones(piece.num_rows, bool)
        here = deleted[np.searchsorted(deleted, start) : np.searchsorted(deleted, start + piece.num_rows)]
        is_kept[here - start] = False
        start += piece.num_rows
        yield piece.filter(pa.array(is_kept))
