"""The family `preview`: any dataset of the catalogue becomes a listing of splits, ready answers with rows, and a Parquet segment.

Files of datasets are hostile: files.py opens them, and no library gets a path of them. The server stores headers and bytes and
sends them; it never looks into a file. Every task takes one header, answers with one header and one payload (no `parts`; ask it
with Replica.ask or as a block of the pool `jobs`; `page` as one of the query pool). Any task but `scan` may answer instead:

    {"failure": {"code", "message", "cause_class", "cause_message", "cause_traceback"}}
        code             SplitsNamesError InfoError RowsError DatasetNotSupported TooBigContent SplitNotFound
        message          text for TooBigContent ("The dataset has N columns, the limit is M. Declare fewer or split it."); else null
        cause_class      name of the exception, empty where the code says it all
        cause_message    at most 1,000 characters, without the folder of the dataset
        cause_traceback  strings that end in a newline, the last 20 frames, without absolute paths; for admins only
    MemoryError, deaths and time limits are not caught here: they are failures of the block.

Common fields of what is asked:
    root     absolute path of the catalogue's root that holds the dataset
    name     `name` or `org/name`, as `scan` gave it
    limits   {} or some of: rows_max_bytes (1,000,000), rows_max_number (100), rows_min_number (1), record_bytes (16 MiB),
             decompressed_bytes (1 GiB), prepare_bytes (5 GiB; 0 = never prepare)
    widened  null, or what `prepare` answered last for this split at this revision: {name: COLUMN}
    assets   absolute path of the folder of the run; it is made, with its parents, when the first file goes into it. Files:
             `<assets>/<row>/<16 hex: BLAKE2b, digest_size=8, of the column's name in UTF-8>/<filename>`
    run      text of the run, for `?v=`

A COLUMN is {"name", "type", "labels": [..] or null, "feature": modern feature, "dtype": type in the segment, "declared":
bool}.

BODY is how a modern answer (`/first-rows`, `/v2/rows`) is described; all numbers are byte offsets in that answer:
    {"bases": [offset],            insert the public base address with its final slash here; empty without pictures and sound
     "features": [start, end],     the JSON array of features, with its brackets
     "rows": [[start, end, cell]]} each row item with its braces; `cell` is where one more cell goes into its `row`, before the `}`
    (a cell is inserted with a comma before it if the answer has columns, else without.)

`scan`: what is in the roots.
    asked   roots: [absolute paths], the first wins on equal names; name: null, or the only name to look for
    gives   datasets: [{"name", "root", "revision": 40 hex, "versions": bool, "private": bool, "card"}], ordered by name
                versions: uploads have written it
                card: {"title", "tags": ["key:value"], "description", "citation", "paperswithcode_id", "license", "viewer": bool};
                each text null when absent; card is null where README.md is missing or cannot be read
            shadowed: [{"name", "root"}] hidden by an equal name in an earlier root
            empty: true while no root holds anything

`splits`: the configs and splits of a dataset, in listing order.
    asked   root, name
    gives   configs: [{"config", "default": bool, "splits": [{"split", "num_bytes", "num_examples", "files": n}], "error"}]
                numbers as declared in README.md, else null; error: null, or a failure as above, with "splits": []
            If no config could be listed, the answer is a failure.

`files`: which files a split has. Of a dataset of a hub (listed.py) they are not all here.
    asked   root, name, config, split
    gives   files: [[path, size]]; metadata: the same of files that add columns to pictures and sounds; format

`rows`: first rows, in all answers that show them.
    asked   root, name, config, split, limits, widened, assets, run
    gives   columns: [COLUMN]
            truncated: [] or some of "cells", "rows" (for `X-Preview-Truncated` of `/rows`)
            sizes: [rows, rows gzip, first-rows, first-rows gzip], in bytes; a gzip size is 0 for a body under 500 bytes, and
                that of first-rows also where it has bases
            etags: [rows, first-rows], 16 hex each
            first_rows: BODY; first_rows_truncated: bool
            numbers: {"num_bytes": of the split's files, "num_examples": from Parquet footers, else null, "num_columns"}
            assets: how many files were written; format: "csv" "tsv" "jsonl" "json" "parquet" "text" "image" "audio"
            segments: ids, in order, if the split's files are `.sluice/segments/<id>/rows.parquet` of the dataset itself (what
                ingestion wrote; nothing to prepare then), else null
            payload: the four bodies, one after the other

`prepare`: all rows of a split as segments (engine/tasks/query/segments.py says what those are), with their sidecars.
    asked   root, name, config, split, limits, widened; staging: absolute path of an empty folder
    gives   segments: [{"id", "rows", "bytes", "nulls"}], each the folder `<staging>/segments/<id>`, on the disk
            columns: [COLUMN]; segment_columns: [fields of ColumnInfo, and "nulls" in these rows], numbered from 0 in order; no
                segment belongs to two splits or to two versions, so a number means something in this answer alone
            numbers: {"num_bytes", "num_examples", "num_columns", "parquet_bytes", "memory_bytes"}
            widened: {name: COLUMN} that later rows made wider, with those asked; where it differs from what was asked, `rows` must
                be asked again with it
            or {"full": true}: the disk is full, or has less than 1 GiB free

`statistics`: of a prepared split.
    asked   folder: of the segments; segments: [{"id", "rows"}]; columns: [COLUMN] of `prepare`
    gives   sizes: [body, body gzip or 0]; etag
            payload: the two bodies of `/statistics`, with "partial": false

`page`: rows from any place of a prepared split, or of a split whose own files are segments or Parquet.
    asked   folder, segments, columns: as for `statistics`; or segments: null, with root, name, config, split: the source Parquet
            limits, widened, offset, length; name, config, split, assets, run: for the addresses of pictures
            records: whether the rows are also wanted as records for a model
    gives   body: BODY; num_rows; num_rows_total; truncated: as of `rows`
            records: [row_idx] of the lines; records_size
            payload: the body of `/v2/rows` with "partial": false; then NDJSON lines, each with `yhat_id` = row_idx, of uncut rows
                     (labels by name, dates as text, pictures and sound left out)
"""

import os
from collections.abc import Callable

import pyarrow as pa

from engine.frames import Buffer, Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.preview import page, prepare, rows, splits
from engine.tasks.preview.failures import Failed, report
from engine.tasks.preview.files import refuse_sockets
from engine.tasks.preview.scan import Scanner

Work = Callable[[Header], tuple[Header, list[Buffer]]]


def tasks(families: Families) -> dict[str, TaskFunction]:
    """All tasks, as the docstring of this file says. From now on, this process can open no connection."""
    refuse_sockets()
    # One block at a time, as any replica; and memory that is free again goes back to the system.
    pa.set_cpu_count(1)
    pa.set_memory_pool(pa.system_memory_pool())
    return {name: _task(work) for name, work in works(families.the(Scanner)).items()}


def works(scanner: Scanner) -> dict[str, Work]:
    """What each task does, by name. Failed."""
    return {
        "scan": lambda header: (scanner.scan(header), []),
        "splits": lambda header: (splits.splits(header), []),
        "files": lambda header: (splits.files(header), []),
        "rows": rows.rows,
        "prepare": lambda header: (prepare.prepare(header), []),
        "statistics": _statistics,
        "page": page.page,
    }


def _statistics(header: Header) -> tuple[Header, list[Buffer]]:
    """duckdb takes half a second and 60 MB to import: only replicas that are asked for statistics do it."""
    from engine.tasks.preview.statistics import statistics

    return statistics(header)


def _task(work: Work) -> TaskFunction:
    """The task whose answer is what `work` returns, or why it came to nothing."""

    def run(header: Header, payload: memoryview) -> Reply:
        told, buffers = answer(work, header)
        return {"parts": [{**told, "size": sum(map(len, buffers))}]}, buffers

    return run


def answer(work: Work, header: Header) -> Reply:
    """What a task answers: what its work returns, or a failure."""
    try:
        return work(header)
    except Failed as failed:
        return {"failure": report(failed, os.path.join(header.get("root") or "", header.get("name") or ""))}, []
