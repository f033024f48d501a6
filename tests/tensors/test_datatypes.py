"""Bytes of tensors: what is written is read back, bit for bit, for every datatype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.tasks.tensors.datatypes import DATATYPES, STRINGS, BadBytes, to_array, to_bytes

NUMBERS = [dtype for dtype in DATATYPES.values() if dtype != STRINGS]
shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=5)
tensors = st.sampled_from(NUMBERS).flatmap(lambda dtype: arrays.arrays(dtype, shapes))


@given(tensors)
def test_numbers_come_back_bit_for_bit(array: np.ndarray) -> None:
    found = to_array(memoryview(to_bytes(array)), array.dtype, array.shape)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_texts_come_back(texts: list[str]) -> None:
    array = np.array(texts, object)
    assert to_array(memoryview(to_bytes(array)), STRINGS, array.shape).tolist() == texts


@given(st.binary(max_size=40), st.integers(0, 4))
def test_any_bytes_are_texts_or_are_refused(raw: bytes, count: int) -> None:
    try:
        array = to_array(memoryview(raw), STRINGS, (count,))
    except BadBytes:
        return
    assert to_bytes(array) == raw


@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_byte_too_few_is_refused(dtype: np.dtype) -> None:
    with pytest.raises(BadBytes, match="its shape needs"):
        to_array(memoryview(bytes(3 * dtype.itemsize - 1)), dtype, (3,))
