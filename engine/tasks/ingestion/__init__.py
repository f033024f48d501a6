"""The family `ingestion`: rows that people send become segments of a dataset (engine/tasks/query/segments.py says what those are).

Every task is told folders and answers with small headers; only this family and the queries know what is in the files. The server
moves bytes and renames folders. What each task gets and gives (all but `lines` answer with one part, `{"parts": [{"size", ...}]}`;
below is what stands in that part, and `size` counts the bytes of the answer):

A COLUMN is the fields of ColumnInfo: {"number", "name", "dtype", "dim", "names", "source", "model", "words"}. A SCHEMA is a list of
columns, each also with "fixed": whether its type was asked for, or stands in the dataset already, so that it never widens.
A SEGMENT is {"id": 32 hex digits, "rows", "bytes": of all its files, "nulls": [nulls of each column, by its number]}.

Any task may answer, in place of what stands below:
    {"refused": {"code", "message", "line", "column"}}  code `bad_row`, `invalid_parameter` (options that do not fit the dataset) or
                                                  `type_mismatch` (seal: the dataset got the column with another type meanwhile);
                                                  line counts from 1 in the body, or is null; column is a name, or null
    {"full": true}                                the disk is full

`ingest`: whole NDJSON lines become `<staging>/<number>.arrow`.
    asked   staging: folder; number: of the block, from 0; first_line: number of the block's first line in the body, from 1
            schema: null for the first block, whose answer gives the schema that all other blocks of the upload are asked with
            existing: the columns of the dataset, [] for a new one; looked at with the first block only
            options: {"types": {name: type}, "class_labels": [name], "words": [name], "on_error": "stop"|"skip",
                      "embed": [{"source", "column", "model", "dim"}]}
                      A type is bool int64 float64 string bytes timestamp date json `vector(n)`, or `list<T>` of bool int64 float64
                      string. What the dataset has (its embedded, indexed and class columns) need not be repeated
            payload: the lines; may be empty (an upload without rows asks for one block, so that it has a schema)
    gives   schema; rows; skipped; errors: [{"line", "message"}], the first 20 skipped; and
            texts: [{"column": number, "source": number, "model", "dim", "lines", "size"}], one for each column with texts to embed
            payload: for each entry of `texts` in turn, `size` bytes: `lines` JSON strings, a line each. Null texts are left out
    With on_error=stop the first bad line of the block is its `refused`; an earlier block may have an earlier one.

`vectors`: the vectors of one column of one block become `<staging>/<number>.c<column>.f32`.
    asked   staging, number; column, dim: as in `texts`; lines: how many vectors there are
            form: "f32", the payload is float32 little-endian; or "base64", it is `lines` JSON strings of base64, a line each
    gives   {}

`seal`: the blocks become segments. May be asked again, with newer `existing`, as long as staging stands.
    asked   staging; blocks: [number] in order; schema: of the first block; existing: the columns of the dataset as it is now
    gives   segments: in order, none for no rows; each is the folder `<staging>/segments/<id>`, on the disk, ready to be renamed
            columns: all columns of the dataset with these rows, existing ones first; each also with "nulls" in these rows

`mend`: sidecars that are missing in one segment are made from its rows.parquet.
    asked   folder: of the segment; columns: of the dataset
    gives   made: names of the files

`merge`: neighbours become one segment (or more, when they have more rows than one may have).
    asked   staging: folder to write into; folder: where the segments are; segments: [{"id", "rows"}] in order; columns
    gives   segments: as `seal`

`cut`: rows are deleted.
    asked   staging; folder; columns; segments: all of the version, [{"id", "rows"}] in order
            payload: int64 little-endian, the row numbers to delete, counted through these segments from 0, each once, ascending
    gives   deleted; segments: those that take the place of the ones given, in order. One that lost rows is new and has "was": the
            id it replaces; one that did not has its old "id", "rows" and "was": null, and nothing else; one that lost all is absent

`lines`: a file of a person becomes NDJSON lines, about 1 MiB at a time, for `dataset import`. Asked with Replica.ask, so there are
    no parts. The child keeps the file open from one question to the next.
    asked   source: path; part: from 0, each time one more. Kinds by name: .csv .tsv .jsonl .ndjson .parquet, also with .gz
    gives   is_last; rows: in this part; done: share of the file that is read, 0 to 1; types: {name: type} that the upload must ask
            for, the same in every part (timestamps, dates, bytes); late_types: {name: type} of the columns whose first rows are
            null in a file that has types of its own, which an upload that makes a dataset should ask for; or refused: one line
            that says why
            payload: the lines
"""

import errno
from collections.abc import Callable

from engine.frames import Buffer, Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.ingestion import ingest, rewriting, seal, vectors
from engine.tasks.ingestion.files import FileLines
from engine.tasks.ingestion.refusals import RefusedUpload

Work = Callable[[Header, memoryview], tuple[Header, list[Buffer]]]


def tasks(families: Families) -> dict[str, TaskFunction]:
    """ingest, vectors, seal, mend, merge, cut, lines: as the docstring of this file says."""
    files = families.the(FileLines)

    def read_lines(header: Header, payload: memoryview) -> Reply:
        return files.answer(header)

    works: dict[str, Work] = {
        "ingest": ingest.ingest,
        "vectors": lambda header, payload: (vectors.keep(header, payload), []),
        "seal": lambda header, payload: (seal.seal(header), []),
        "mend": lambda header, payload: (rewriting.mend(header), []),
        "merge": lambda header, payload: (rewriting.merge(header), []),
        "cut": lambda header, payload: (rewriting.cut(header, payload), []),
    }
    return {name: _in_one_part(work) for name, work in works.items()} | {"lines": read_lines}


def _in_one_part(work: Work) -> TaskFunction:
    """The task whose answer is what `work` returns, a refusal, or that the disk is full."""

    def run(header: Header, payload: memoryview) -> Reply:
        pieces: list[Buffer] = []
        try:
            told, pieces = work(header, payload)
        except RefusedUpload as refused:
            told = {"refused": refused.report()}
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            told = {"full": True}
        return {"parts": [{"size": sum(map(len, pieces)), **told}]}, pieces

    return run
