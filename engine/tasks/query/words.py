"""Words: an index of the words of a text column, and how well each row matches some words (BM25).

A word is a run of letters and digits, in lower case. The index of a segment is a sidecar, `c<i>.words`: an Arrow IPC file, mapped
when it is read, with one record of lists.

    words    the words of the segment, sorted by their UTF-8 bytes
    starts   int64 [words + 1]: where the entries of each word begin in `rows` and `counts`
    rows     int32: the rows of the segment that have the word, ascending
    counts   int32: how often each has it
    lengths  int32 [rows of the segment]: how many words each row has; 0 for a null

Knows no text of a query but the words to be found.
"""

import os
import re
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.tasks.query.segments import ColumnInfo, Source
from engine.tasks.query.stopping import Control
from engine.tasks.query.vectors import Rows

Array = np.ndarray[Any, np.dtype[Any]]

# Source of the formula: Kamphuis, de Vries, Boytsov and Lin 2020, "Lucene (accurate)"; the constants are Lucene's.
K1 = 1.2
B = 0.75
NO_WORD = r"[^\p{L}\p{N}]+"
ASCII_WORD = re.compile("[a-z0-9]+")
# We cut out the words of CUT_ROWS rows at once, and sort SORTED_WORDS words at once, which takes about 200 MB.
CUT_ROWS = 8_192
SORTED_WORDS = 4_000_000
# An array of fewer bytes is not worth a file.
LEAST_MAPPED_BYTES = 4 * 1024 * 1024


# Reading


class WordIndex:
    """The word index of one segment, mapped."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            record = pa.ipc.open_file(source).get_batch(0)
        self._words = record.column("words").values
        self._starts, self._rows, self._counts, self.lengths = (
            record.column(name).values.to_numpy() for name in ("starts", "rows", "counts", "lengths")
        )

    def find(self, word: str) -> tuple[Array, Array]:
        """Rows int32 of the segment that have the word, and how often each has it."""
        # Python orders texts by code points, which is the order of their UTF-8 bytes.
        place = bisect_left(range(len(self._words)), word, key=lambda i: self._words[i].as_py())
        if place == len(self._words) or self._words[place].as_py() != word:
            return self._rows[:0], self._counts[:0]
        entries = slice(self._starts[place], self._starts[place + 1])
        return self._rows[entries], self._counts[entries]


def bm25(source: Source, column: ColumnInfo, text: str, rows: Rows | None = None, *, control: Control) -> Array:
    """float32 [N]: how well each row of the source, or each of `rows`, matches the words of the text; 0 if it has none of them.

    rows  row numbers in any order, -1 for a row that is null, which gives NaN; None for all rows
    """
    indexes = [segment.sidecar(f"{column.field}.words", WordIndex) for segment in source.segments]
    present = [(int(start), index) for start, index in zip(source.starts[:-1], indexes, strict=True) if index is not None]
    num_words = sum(int(index.lengths.sum(dtype=np.int64)) for _, index in present)
    found = np.zeros(source.num_rows)
    for word, times in Counter(split(text)).items():
        control.check()
        entries = [(start, index, *index.find(word)) for start, index in present]
        num_with_word = sum(len(local) for _, _, local, _ in entries)
        weight = times * log(1 + (source.num_rows - num_with_word + 0.5) / (num_with_word + 0.5))
        for start, index, local, counts in entries:
            scores = index.lengths[local] * (source.num_rows / max(num_words, 1))
            # In place: a word such as `a` is in half of the rows, and each further array of them costs 0.1 ms.
            scores *= B
            scores += 1 - B
            scores *= K1
            scores += counts
            np.divide(weight * counts, scores, out=scores)
            found[start : start + len(index.lengths)][local] += scores
    rounded = found.astype(np.float32)
    return rounded if rows is None else np.append(rounded, np.float32(np.nan))[rows]


def split(text: str) -> list[str]:
    """The words of a text, in order."""
    if text.isascii():  # compiling the pattern of all letters takes 1 ms
        return ASCII_WORD.findall(text.lower())
    return [word for word in _cut(pa.array([text], pa.string()))[0].as_py() if word]


def _cut(texts: pa.Array) -> pa.Array:
    """The words of each text; empty words stand where a text begins or ends with something else."""
    return pc.split_pattern_regex(pc.utf8_lower(texts), NO_WORD)


# Writing


def write(folder: Path, column: ColumnInfo, texts: pa.ChunkedArray) -> None:
    """Write the word index of a segment into its folder; the caller syncs the file.

    texts  all rows of the segment, string or null
    """
    lengths = np.zeros(len(texts), dtype=np.int32)
    entries = _merged([_sorted_entries(words, rows, lengths).put_aside(folder) for words, rows in _groups(texts)], folder)
    lists = {
        "words": entries.words,
        "starts": pa.array(entries.starts, pa.int64()),
        "rows": pa.array(entries.rows, pa.int32()),
        "counts": pa.array(entries.counts, pa.int32()),
        "lengths": pa.array(lengths),
    }
    columns = [pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values) for values in lists.values()]
    record = pa.record_batch(columns, names=list(lists))
    with pa.OSFile(str(folder / f"{column.field}.words"), "wb") as sink, pa.ipc.new_file(sink, record.schema) as writer:
        writer.write_batch(record)


@dataclass(slots=True)
class _Entries:
    """The entries of some neighbouring rows, as they are in the file."""

    words: pa.LargeStringArray
    starts: Array
    rows: Array
    counts: Array

    def put_aside(self, folder: Path) -> "_Entries":
        """The same, and what grows with the rows of a segment does not take memory until all groups are there."""
        rows, counts = (_mapped(folder, array.shape[0], array) for array in (self.rows, self.counts))
        return _Entries(self.words, self.starts, rows, counts)


def _mapped(folder: Path, length: int, content: Array | None = None) -> Array:
    """int32 [length]: a short array, or one in a file without a name, which goes with it. OSError when the disk is full.

    content  what it begins with
    """
    if 4 * length < LEAST_MAPPED_BYTES:
        return np.empty(length, np.int32) if content is None else content
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, 4 * length)  # a mapping of room that the disk does not have would end the process
        array = np.memmap(file, np.int32, "r+", shape=(length,))
    if content is not None:
        array[:] = content
    return array


def _groups(texts: pa.ChunkedArray) -> Iterator[tuple[pa.ChunkedArray, Array]]:
    """All words of the texts with the row of each, in groups of about SORTED_WORDS words."""
    words: list[pa.Array] = []
    rows: list[Array] = []
    for start in range(0, len(texts), CUT_ROWS):
        for first_row, chunk in _chunks(texts.slice(start, CUT_ROWS), start):
            cut = _cut(chunk)
            words.append(cut.flatten())
            rows.append(pc.list_parent_indices(cut).to_numpy() + first_row)
        if sum(map(len, words)) >= SORTED_WORDS:
            yield pa.chunked_array(words), np.concatenate(rows)
            words, rows = [], []
    if words:
        yield pa.chunked_array(words), np.concatenate(rows)


def _chunks(texts: pa.ChunkedArray, start: int) -> Iterator[tuple[int, pa.Array]]:
    for chunk in texts.chunks:
        yield start, chunk
        start += len(chunk)


def _sorted_entries(words: pa.ChunkedArray, rows: Array, lengths: Array) -> _Entries:
    """Sort the words of a group by word and row, and count them; also adds to the lengths of the rows."""
    encoded = words.dictionary_encode().combine_chunks()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order))
    is_word = pc.not_equal(words, "").to_numpy()
    rows = rows[is_word]
    lengths += np.bincount(rows, minlength=len(lengths)).astype(np.int32)
    keys = ranks[encoded.indices.to_numpy()[is_word]] * len(lengths) + rows
    keys.sort()
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    word_of, row_of = np.divmod(keys[firsts], max(len(lengths), 1))
    starts = np.append(np.flatnonzero(np.diff(word_of, prepend=-1)), len(firsts))
    kept = encoded.dictionary.take(pa.array(order[word_of[starts[:-1]]])).cast(pa.large_string())
    return _Entries(kept, starts, row_of.astype(np.int32), np.diff(firsts, append=len(keys)).astype(np.int32))


def _merged(groups: list[_Entries], folder: Path) -> _Entries:
    """One index of all groups; the rows of each group come after those of the group before."""
    words = pa.chunked_array([group.words for group in groups], pa.large_string()).unique()
    words = words.take(pc.sort_indices(words))
    places = [pc.index_in(group.words, value_set=words).to_numpy() for group in groups]
    numbers = np.zeros(len(words), dtype=np.int64)
    for group, place in zip(groups, places, strict=True):
        numbers[place] += np.diff(group.starts)
    starts = np.concatenate([[0], np.cumsum(numbers)])
    merged = _Entries(words, starts, *(_mapped(folder, int(starts[-1])) for _ in range(2)))
    free = starts[:-1].copy()
    for group, place in zip(groups, places, strict=True):
        sizes = np.diff(group.starts)
        targets = np.repeat(free[place] - group.starts[:-1], sizes) + np.arange(len(group.rows))
        merged.rows[targets], merged.counts[targets] = group.rows, group.counts
        free[place] += sizes
    return merged
