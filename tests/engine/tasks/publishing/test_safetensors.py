"""Weights read from safetensors files: their types, their shards, and files that are broken."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engine.tasks.publishing.onnx_file import Unfit
from engine.tasks.publishing.safetensors import Tensors
from tests import sentence_folders
from tests.sentence_folders import safetensors, write_json

PER_EXAMPLE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def folder_with(folder: Path, data: bytes, name: str = "model.safetensors") -> Path:
    (folder / name).write_bytes(data)
    return folder


def file_of(header: Any, buffer: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + buffer


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def refusal(folder: Path, name: str = "a") -> str:
    with pytest.raises(Unfit) as caught:
        Tensors(folder).read(name)
    assert str(folder) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_type_becomes_float32(tmp_path: Path, dtype: str) -> None:
    values = np.array([[0, 1, -2], [0.5, 1024, 2**-14]], np.float32)
    found = Tensors(folder_with(tmp_path, safetensors({"a": values, "b": values[0], "c": values[0, 1]}, dtype)))
    for name, expected in {"a": values, "b": values[0], "c": values[0, 1]}.items():
        assert found.read(name).dtype == np.float32
        np.testing.assert_array_equal(found.read(name), expected)


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    raw = np.array([0x3F80, 0xC049, 0x7F80, 0x0001], "<u2").tobytes()
    found = Tensors(folder_with(tmp_path, file_of(entry("BF16", [4], [0, 8]), raw))).read("a")
    assert found.tolist() == [1.0, -3.140625, np.inf, 2.0**-133]


@PER_EXAMPLE
@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0), elements=st.floats(width=32)))
def test_what_was_written_is_read(tmp_path: Path, values: np.ndarray) -> None:
    found = Tensors(folder_with(tmp_path, safetensors({"first": np.ones(3, np.float32), "a": values}))).read("a")
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()


def test_a_tensor_of_float32_stays_in_its_file_until_it_is_used(tmp_path: Path) -> None:
    found = Tensors(folder_with(tmp_path, safetensors({"a": np.ones(5, np.float32)}))).read("a")
    while isinstance(found.base, np.ndarray) and not isinstance(found, np.memmap):
        found = found.base
    assert isinstance(found, np.memmap)


def test_tensors_of_several_files_are_found_by_the_index(tmp_path: Path) -> None:
    weights = {name: np.full(3, i, np.float32) for i, name in enumerate("abcde")}
    sentence_folders.write_weights(tmp_path, weights, num_files=3)
    assert len(list(tmp_path.iterdir())) == 4
    found = Tensors(tmp_path)
    assert [found.read(name)[0] for name in "abcde"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("prefix", ["bert.", "mpnet.", "0.auto_model."])
def test_a_prefix_is_looked_through_where_the_plain_name_is_absent(tmp_path: Path, prefix: str) -> None:
    weights = {f"{prefix}a": np.ones(1, np.float32), f"{prefix}b": np.ones(1, np.float32), "b": np.zeros(1, np.float32)}
    found = Tensors(folder_with(tmp_path, safetensors(weights)))
    assert [found.read(name)[0] for name in "ab"] == [1, 0]


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, safetensors({"a": np.ones(1, np.float32)}))
    assert refusal(tmp_path, "encoder.x") == "the weights have no tensor 'encoder.x'"
    assert refusal(tmp_path, "__metadata__") == "the weights have no tensor '__metadata__'"


def test_a_broken_tensor_that_nobody_reads_does_no_harm(tmp_path: Path) -> None:
    header = entry() | {"b": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}, "c": None}
    assert Tensors(folder_with(tmp_path, file_of(header))).read("a").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "model.safetensors is cut short: it has 0 bytes"),
        (b"1234567", "model.safetensors is cut short: it has 7 bytes"),
        (b"\xff" * 20, "model.safetensors is broken: its header would have 18446744073709551615 bytes"),
        ((13).to_bytes(8, "little") + bytes(12), "model.safetensors is broken: its header would have 13 bytes"),
        (file_of(b"{"), "model.safetensors is broken: its header is not JSON"),
        (file_of(b"\xff"), "model.safetensors is broken: its header is not JSON"),
        (file_of(b"[" * 100_000), "model.safetensors is broken: its header is not JSON"),
        (file_of([]), "model.safetensors is broken: its header is not a JSON object"),
        (file_of(entry(), bytes(7)), "tensor 'a' lies outside of model.safetensors: the file is cut short or broken"),
        (file_of(entry(offsets=[8, 0])), "tensor 'a' lies outside of model.safetensors: the file is cut short or broken"),
        (file_of(entry(shape=[3])), "tensor 'a' has 8 bytes, which are not [3] of F32"),
        (file_of(entry(dtype="F16")), "tensor 'a' has 8 bytes, which are not [2] of F16"),
        (file_of(entry(dtype="I8")), "tensor 'a' is I8: only F32, F16, BF16 are read"),
        (file_of(entry(shape=[0, 10**30], offsets=[0, 0])), f"tensor 'a' has the impossible shape [0, 1{'0' * 30}]"),
        *[
            (file_of(header), "tensor 'a' is described badly: it needs dtype, shape and data_offsets")
            for header in [
                {"a": None},
                {"a": {}},
                {"a": [1, 2]},
                entry(dtype=4),
                entry(shape=8),
                entry(shape=[-2]),
                entry(shape=["2"]),
                entry(shape=[True, 2]),
                entry(offsets=[0]),
                entry(offsets=[-8, 0]),
                entry(offsets=[0.0, 8.0]),
            ]
        ],
    ],
)
def test_a_broken_file_gives_one_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    assert refusal(folder_with(tmp_path, data)) == reason


@PER_EXAMPLE
@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(safetensors({"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    folder_with(tmp_path, bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    for name in ("a", "b"):
        with contextlib.suppress(Unfit):
            assert Tensors(tmp_path).read(name).dtype == np.float32


@pytest.mark.parametrize(
    "index",
    [b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": []}}', b'{"weight_map": {"a": {}}}'],
)
def test_an_index_without_a_map_is_refused(tmp_path: Path, index: bytes) -> None:
    name = "model.safetensors.index.json"
    assert refusal(folder_with(tmp_path, index, name)) == f"{name} has no 'weight_map' of tensors and their files"


@pytest.mark.parametrize("shard", ["../a.safetensors", "/etc/passwd", "", "..", "b.safetensors", 3])
def test_an_index_names_files_of_its_own_folder_only(tmp_path: Path, shard: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    folder_with(tmp_path, safetensors({"a": np.ones(1, np.float32)}), "a.safetensors")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": shard}})
    assert refusal(folder).startswith("model.safetensors.index.json names a file that is not in the folder: ")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_pickled_weights_are_not_opened(tmp_path: Path, name: str) -> None:
    assert refusal(folder_with(tmp_path, b"", name)) == "the weights are in pytorch_model.bin only: convert it to safetensors"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "the folder has no model.safetensors"
