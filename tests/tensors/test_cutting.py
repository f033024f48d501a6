"""Rows of a request, as requests of their own: every row once, in order, in parts of about the wanted size."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks.tensors.request import MAX_PARTS, InferRequest, Rejected, Wanted, cut_rows, framed, read_request, write_rows


def request_of(count: int, **tensors: np.ndarray) -> InferRequest:
    numbers = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    return InferRequest("id", {"x": numbers, **tensors}, [Wanted("y", True), Wanted("z", False)], False)


@given(st.integers(1, 200), st.integers(1, 60))
def test_parts_have_every_row_once_and_no_more_than_wanted(count: int, most: int) -> None:
    cuts = cut_rows(request_of(count), most, None)
    assert [start for start, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == count
    assert max(end - start for start, end in cuts) <= most


@given(st.lists(st.text(max_size=30), min_size=1, max_size=50), st.integers(1, 60), st.integers(1, 20))
def test_texts_count_their_characters_as_far_as_the_model_looks(texts: list[str], most: int, record_bytes: int) -> None:
    request = InferRequest(None, {"text": np.array(texts, object)}, None, True)
    for start, end in cut_rows(request, most, record_bytes):
        counted = sum(min(max(1, len(text)), record_bytes) for text in texts[start:end])
        assert counted <= most or end == start + 1


@pytest.mark.parametrize("count", [5_000, 1_000_000])
def test_the_number_of_parts_is_bounded(count: int) -> None:
    assert len(cut_rows(request_of(count), 1, None)) <= MAX_PARTS


def test_a_part_is_a_request_for_its_rows() -> None:
    names = np.array(["a", "é", "", "d"], object)
    request = request_of(4, name=names)
    part = read_request(memoryview(write_rows(request, 1, 3)))
    assert part.tensors["x"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert part.tensors["name"].tolist() == ["é", ""]
    assert (part.outputs, part.num_rows, part.id) == (request.outputs, 2, None)
    whole = read_request(memoryview(framed(0, b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":[7]}]}')))
    assert (whole.outputs, whole.is_binary, whole.tensors["x"].tolist()) == (None, False, [7])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
        ({"outputs": [{"name": f"y{i}"} for i in range(1025)]}, "at most 1024"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [0, 2**64 - 1], "data": []}]}, "values"),
        ({"inputs": [{"name": "x" * 10_000, "datatype": "none", "shape": [1], "data": [1]}]}, "^.{1,2000}$"),
    ],
)
def test_what_would_cost_much_is_refused_shortly(change: dict[str, object], reason: str) -> None:
    request = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [7]}]} | change
    with pytest.raises(Rejected, match=reason):
        read_request(memoryview(framed(0, json.dumps(request).encode())))
