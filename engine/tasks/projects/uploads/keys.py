"""Keys: many columns become one number a row, equal where all of them are equal, and in the order of the columns.

Knows columns of text and of days alone.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray

LARGEST_CODE = 2**62


def codes_of(table: pa.Table, columns: Sequence[str]) -> Array:
    """int64 [rows]. The columns are dictionaries of distinct strings, or date32, and have no nulls."""
    codes, num_codes = np.zeros(table.num_rows, dtype=np.int64), 1
    for name in columns:
        values = table[name].combine_chunks()
        if pa.types.is_dictionary(values.type) and len(values.dictionary) <= 1:
            continue
        ranks, num_ranks = _ranks(values)
        if num_codes * num_ranks > LARGEST_CODE:
            distinct, codes = np.unique(codes, return_inverse=True)
            num_codes = len(distinct)
        # In place: new arrays of this size would cost as much as the sums in them.
        codes *= num_ranks
        codes += ranks
        num_codes *= num_ranks
    return codes


def _ranks(values: pa.Array) -> tuple[Array, int]:
    """Of each row the place of its value among the others, and how many there may be."""
    if pa.types.is_date32(values.type):
        days = values.view(pa.int32()).to_numpy()
        first, last = (int(days.min()), int(days.max())) if len(days) else (0, 0)
        return days - first, last - first + 1
    order = pc.sort_indices(values.dictionary).to_numpy()
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order))
    return ranks[values.indices.to_numpy()], len(order)


def without_last(codes: Array, column: pa.ChunkedArray) -> Array:
    """The codes of the same rows without the last column, which is a dictionary."""
    return codes // max(1, len(column.combine_chunks().dictionary))


def sorting(codes: Array) -> Array | None:
    """int64 [rows]: the rows by code, those of one code in their order; None if they are in this order already."""
    return None if (codes[1:] >= codes[:-1]).all() else np.argsort(codes, kind="stable")
