"""Weights as they are published: safetensors files, read tensor by tensor.

A file is the length of its header (8 bytes, little-endian), the header as JSON (tensor -> dtype, shape, data_offsets) and one raw
buffer. A model of several files has an index (tensor -> file). Knows nothing of models, and never unpickles anything.

Source: github.com/huggingface/safetensors, README, "Format".
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from engine.tasks.publishing.onnx_file import Unfit

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LENGTH_BYTES = 8
# The format's own limit; a length beyond it is a broken or hostile file.
HEADER_LIMIT_BYTES = 100_000_000
# BF16 is the upper half of a float32, which numpy has no name for.
STORED_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
# What checkpoints put before the names when the encoder is a part of something larger.
PREFIXES = ("", "bert.", "mpnet.", "0.auto_model.")


class Tensors:
    """The tensors of a model's folder. Unfit when it has none, or when a file is broken."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _File] = {}
        for name in _file_names(folder):
            file = _File(folder / name)
            self._files.update(dict.fromkeys(file.names, file))

    def read(self, name: str) -> np.ndarray:
        """One tensor as float32, mapped from its file or converted now. Unfit when it is missing or broken.

        A name that is absent is looked for with a prefix before it.
        """
        for found in (prefix + name for prefix in PREFIXES):
            if found in self._files:
                return self._files[found].read(found)
        raise Unfit(f"the weights have no tensor '{name}'")


def _file_names(folder: Path) -> list[str]:
    """One file, or those that the index names."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    if (folder / "pytorch_model.bin").is_file() or (folder / "pytorch_model.bin.index.json").is_file():
        raise Unfit("the weights are in pytorch_model.bin only: convert it to safetensors")
    raise Unfit(f"the folder has no {WEIGHTS}")


def _shards(folder: Path) -> list[str]:
    """The files of the index. Unfit for one that is missing or lies elsewhere."""
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unfit(f"{INDEX} has no 'weight_map' of tensors and their files") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise Unfit(f"{INDEX} names a file that is not in the folder: {str(name)[:100]!r}")
    return names


class _File:
    """One file, mapped into memory: a tensor takes none before it is read."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        size_bytes = path.stat().st_size
        if size_bytes < LENGTH_BYTES:
            raise Unfit(f"{self._name} is cut short: it has {size_bytes} bytes")
        mapped = np.asarray(np.memmap(path, np.uint8, "r"))
        header_bytes = int.from_bytes(mapped[:LENGTH_BYTES].tobytes(), "little")
        if header_bytes > min(HEADER_LIMIT_BYTES, size_bytes - LENGTH_BYTES):
            raise Unfit(f"{self._name} is broken: its header would have {header_bytes} bytes")
        self._buffer = mapped[LENGTH_BYTES + header_bytes :]
        self._entries = self._parsed(mapped[LENGTH_BYTES : LENGTH_BYTES + header_bytes].tobytes())

    def _parsed(self, header: bytes) -> dict[str, Any]:
        """Tensor -> its entry."""
        try:
            entries = json.loads(header)
        except (ValueError, RecursionError):
            raise Unfit(f"{self._name} is broken: its header is not JSON") from None
        if not isinstance(entries, dict):
            raise Unfit(f"{self._name} is broken: its header is not a JSON object")
        entries.pop("__metadata__", None)
        return entries

    @property
    def names(self) -> list[str]:
        return list(self._entries)

    def read(self, name: str) -> np.ndarray:
        """float32, in the tensor's shape."""
        dtype, shape, start, end = self._entry(name)
        if dtype not in STORED_TYPES:
            raise Unfit(f"tensor '{name}' is {dtype}: only {', '.join(STORED_TYPES)} are read")
        if not 0 <= start <= end <= self._buffer.size:
            raise Unfit(f"tensor '{name}' lies outside of {self._name}: the file is cut short or broken")
        if end - start != math.prod(shape) * STORED_TYPES[dtype].itemsize:
            raise Unfit(f"tensor '{name}' has {end - start} bytes, which are not {str(shape)[:100]} of {dtype}")
        values = self._buffer[start:end].view(STORED_TYPES[dtype])
        values = _from_bfloat16(values) if dtype == "BF16" else values.astype(np.float32, copy=False)
        try:
            return values.reshape(shape)
        except ValueError:  # axes beyond what an array may have, with a 0 or many 1 among them
            raise Unfit(f"tensor '{name}' has the impossible shape {str(shape)[:100]}") from None

    def _entry(self, name: str) -> tuple[str, list[int], int, int]:
        """Its dtype, shape, and first and last byte in the buffer, of the types they must have."""
        try:
            entry = self._entries[name]
            dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            is_well_formed = isinstance(dtype, str) and all(type(number) is int and number >= 0 for number in (*shape, start, end))
        except (TypeError, KeyError, ValueError):
            is_well_formed = False
        if not is_well_formed:
            raise Unfit(f"tensor '{name}' is described badly: it needs dtype, shape and data_offsets")
        return dtype, shape, start, end


def _from_bfloat16(halves: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, filled up with zeros."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
