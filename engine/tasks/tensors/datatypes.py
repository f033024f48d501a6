"""The datatypes of the Open Inference Protocol, and arrays as their bytes and back. Knows nothing of requests or models."""

import math
import struct
from collections.abc import Iterable

import numpy as np

STRINGS = np.dtype(object)
DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": STRINGS,
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
# Before each element of BYTES: its length, little-endian.
LENGTH = struct.Struct("<I")


class BadBytes(ValueError):
    """Bytes that are not a tensor of the given shape and type; says why."""


def datatype_of(dtype: np.dtype) -> str:
    return _NAMES[dtype]


def to_array(raw: memoryview, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor from the bytes that stand for it. BadBytes."""
    count = math.prod(shape)
    if dtype == STRINGS:
        return np.array(_texts(raw, count), object).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise BadBytes(f"has {len(raw)} bytes of data, and its shape needs {count * dtype.itemsize}")
    if dtype.kind == "b":
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _texts(raw: memoryview, count: int) -> list[str]:
    texts: list[str] = []
    position = 0
    while position < len(raw):
        start = position + LENGTH.size
        if start > len(raw):
            raise BadBytes("ends inside the length of an element")
        [length] = LENGTH.unpack_from(raw, position)
        position = start + length
        if position > len(raw):
            raise BadBytes(f"ends inside element {len(texts)}, which has {length} bytes")
        try:
            texts.append(str(raw[start:position], "utf-8"))
        except UnicodeDecodeError:
            raise BadBytes(f"is not UTF-8 in element {len(texts)}") from None
    if len(texts) != count:
        raise BadBytes(f"has {len(texts)} elements, and its shape needs {count}")
    return texts


def to_bytes(array: np.ndarray) -> bytes:
    """The bytes that stand for a tensor, in C order and little-endian; lone halves of surrogate pairs become `?`."""
    if array.dtype == STRINGS:
        return b"".join(_with_lengths(array.reshape(-1).tolist()))
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _with_lengths(texts: Iterable[str]) -> Iterable[bytes]:
    for text in texts:
        encoded = text.encode("utf-8", "replace")
        yield LENGTH.pack(len(encoded))
        yield encoded
