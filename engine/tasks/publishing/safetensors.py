"""Reads weights from safetensors files, the form in which they are published, tensor by tensor.

A file consists of the length of its header (8 bytes, little-endian), the header as JSON (tensor -> dtype, shape, data_offsets) and
one raw buffer. Weights in several files have an index (tensor -> file). Knows nothing of models, and never unpickles anything.

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
# The format's own limit: a file whose header is longer is broken or hostile.
HEADER_LIMIT_BYTES = 100_000_000
# The types of tensors that are read. BF16 is the upper half of a float32; numpy has no such type.
STORED_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
# Checkpoints put these before the names of tensors if the encoder is a part of something larger.
PREFIXES = ("", "bert.", "mpnet.", "0.auto_model.")


class Tensors:
    """The tensors of a model's folder. Unfit if it has none, or if a file is broken."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, _File] = {}
        for name in _file_names(folder):
            file = _File(folder / name)
            self._files.update(dict.fromkeys(file.names, file))

    def read(self, name: str) -> np.ndarray:
        """One tensor as float32, mapped from its file or converted now. Unfit if it is missing or broken.

        If there is no tensor of this name, the names with one of PREFIXES before it are tried.
        """
        for found in (prefix + name for prefix in PREFIXES):
            if found in self._files:
                return self._files[found].read(found)
        raise Unfit(f"the weights have no tensor '{name}'")


def _file_names(folder: Path) -> list[str]:
    """The one file of the folder, or those that its index names."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    if (folder / "pytorch_model.bin").is_file() or (folder / "pytorch_model.bin.index.json").is_file():
        raise Unfit("the weights are in pytorch_model.bin only: convert it to safetensors")
    raise Unfit(f"the folder has no {WEIGHTS}")


def _shards(folder: Path) -> list[str]:
    """The files that the index names. Unfit if one is missing or not in this folder."""
    try:
        names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unfit(f"{INDEX} has no 'weight_map' of tensors and their files") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise Unfit(f"{INDEX} names a file that is not in the folder: {str(name)[:100]!r}")
    return names


class _File:
    """One file, mapped into memory: a tensor takes no memory until it is read."""

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
        """The header as JSON: tensor -> its entry."""
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
        """One tensor as float32, in its shape."""
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
        except ValueError:  # more axes than an array may have (all but a few are 1), or a too long one beside a 0
            raise Unfit(f"tensor '{name}' has the impossible shape {str(shape)[:100]}") from None

    def _entry(self, name: str) -> tuple[str, list[int], int, int]:
        """A tensor's dtype, shape, first byte in the buffer and the byte after its last. Unfit if one has the wrong type."""
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
    """Numbers whose upper halves are given; the lower halves are zeros."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
