"""The native kernel: lines of plain records to arrays, and columns to lines of results, in compiled code.

kernel.cpp is built when Sluice is installed. Where that was not possible, with SLUICE_NATIVE=false, and for every block that is not
plain, the careful way does the same work with the same bytes. This file alone calls the kernel: it lays out fields and
pieces as kernel.cpp declares them, and keeps the memory they point to alive.
"""

import ctypes
import importlib.machinery
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, starmap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.frames import Buffer
from engine.tasks.scoring.columns import Labels, Numbers, Pieces, Strings, TextColumn

VERSION = 3
NOT_PLAIN = -1
ID_KEY = b"yhat_id"
ID_BYTES = 16
# Keys of a line that the kernel remembers, as in kernel.cpp.
KNOWN_KEYS = 256
# Each field of texts gets as much memory as the block has. Beyond this, the block is not worth it.
MAX_TEXT_BYTES = 64 * 1024 * 1024
# The lines of a usual block take less.
KEPT_BYTES = 8 * 1024 * 1024

# The same numbers as in kernel.cpp: what fields hold, and the kinds of pieces.
READ_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float64): 1, np.dtype(np.int64): 2, np.dtype(object): 3}
ID_TYPE = 4
CONSTANT, LABELS, TEXTS, STRINGS, SPANS, DIGITS = 0, 5, 6, 7, 8, 9
NUMBER_KINDS = {np.dtype(np.float32): 1, np.dtype(np.float64): 2, np.dtype(np.int64): 3, np.dtype(np.bool_): 4}
# The longest number of each kind, with a comma.
NUMBER_BYTES = {1: 18, 2: 26, 3: 22, 4: 6}


class _Field(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("key_size", ctypes.c_int64),
        ("type", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("out", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("last_line", ctypes.c_int64),
    )


class _Piece(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int64),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("stride", ctypes.c_int64),
        ("texts", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("num_texts", ctypes.c_int64),
    )


class Kernel:
    """The compiled library. OSError if it cannot be loaded, or keeps another contract than this file."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.kernel_version.restype = ctypes.c_int64
        if library.kernel_version() != VERSION:
            raise OSError(f"{path.name} is of another version; install again")
        self.read_lines: Any = library.read_lines
        self.read_lines.restype = ctypes.c_int64
        self.read_lines.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
        self.write_lines: Any = library.write_lines
        self.write_lines.restype = ctypes.c_int64
        self.write_lines.argtypes = [
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64),
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p),
        ]


@cache
def kernel() -> Kernel | None:
    """The kernel of this process; None if it is not built, cannot be loaded here, or is switched off."""
    if os.environ.get("SLUICE_NATIVE") == "false":
        return None
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_kernel{suffix}")
        if path.exists():
            try:
                return Kernel(path)
            except (OSError, AttributeError):  # built for another machine, or by an older version of Sluice
                return None
    return None


# Reading


class Wanted(NamedTuple):
    """The fields that make one input of a model.

    keys   of the fields; one for each column of the array
    dtype  of the array; object for strings
    width  numbers in the list that each field holds; 0 if it holds one bare value
    """

    keys: tuple[str, ...]
    dtype: Any
    width: int = 0


def can_read(wanted: Wanted) -> bool:
    """Whether the kernel reads values of this type."""
    return wanted.dtype in READ_TYPES and not (wanted.width and wanted.dtype == np.object_)


@dataclass(slots=True)
class PlainIds:
    """The ids of a plain block, as its lines have them, or made up if no line has one.

    block   int8 view of the block
    places  int64 [N, 2]: where each id starts and ends in the block, with its quotes; None if they are made up
    """

    block: np.ndarray
    places: np.ndarray | None
    count: int

    def __len__(self) -> int:
        return self.count

    def between(self, start: int, end: int) -> "PlainIds":
        """The ids of some of the records."""
        return PlainIds(self.block, None if self.places is None else self.places[start:end], min(end, self.count) - start)


class BlockReader:
    """Reads the plain blocks of one model. ValueError if two fields have one name, a name needs escapes, or fields are too many."""

    def __init__(self, library: Kernel, inputs: Sequence[Wanted]) -> None:
        self._library = library
        self._inputs = inputs
        keys = [_plain_key(key) for wanted in inputs for key in wanted.keys]
        if not 0 < len(keys) < KNOWN_KEYS or len({*keys, ID_KEY}) != len(keys) + 1:
            raise ValueError("a field is wanted twice, none is, or too many are")
        self._keys = [*keys, ID_KEY]
        self._types = [READ_TYPES[np.dtype(wanted.dtype)] for wanted in inputs for _ in wanted.keys] + [ID_TYPE]

    def read(self, payload: Buffer, num_lines: int) -> tuple[list[np.ndarray], PlainIds] | None:
        """The array of each input, [N, columns], and the ids; None if the block is not plain."""
        block = np.frombuffer(payload, np.int8)
        if len(block) * sum(len(wanted.keys) for wanted in self._inputs if wanted.dtype == object) > MAX_TEXT_BYTES:
            return None
        ids = np.empty((num_lines, 2), np.int64)
        memory = [self._memory(wanted, num_lines, len(block)) for wanted in self._inputs]
        fields = (_Field * len(self._keys))(*starmap(_Field, self._fields(memory, ids)))
        num_ids = self._library.read_lines(block.ctypes.data, len(block), num_lines, fields, len(fields))
        if num_ids not in (0, num_lines):
            return None
        ends = [field.out for field in fields]
        return self._arrays(memory, ends, num_lines), PlainIds(block, ids if num_ids else None, num_lines)

    @staticmethod
    def _memory(wanted: Wanted, num_lines: int, block_bytes: int) -> np.ndarray:
        """Where the kernel puts the values of an input: its array, or a row for the texts of each field."""
        if wanted.dtype == object:
            return np.empty((len(wanted.keys), block_bytes), np.int8)
        return np.empty((num_lines, len(wanted.keys) * max(wanted.width, 1)), wanted.dtype)

    def _fields(self, memory: list[np.ndarray], ids: np.ndarray) -> Iterable[tuple[Any, ...]]:
        places = [place for wanted, array in zip(self._inputs, memory, strict=True) for place in _places(wanted, array)]
        places.append((0, ids.ctypes.data, ids.strides[0]))
        for key, kind, (width, out, stride) in zip(self._keys, self._types, places, strict=True):
            yield key, len(key), kind, width, out, stride, 0

    def _arrays(self, memory: list[np.ndarray], ends: list[int], num_lines: int) -> list[np.ndarray]:
        arrays, field = [], 0
        for wanted, array in zip(self._inputs, memory, strict=True):
            if wanted.dtype == object:
                columns = [_strings(row, ends[field + i]) for i, row in enumerate(array)]
                array = np.empty((num_lines, len(columns)), object)
                for i, column in enumerate(columns):
                    array[:, i] = column
            arrays.append(array)
            field += len(wanted.keys)
        return arrays


def _plain_key(key: str) -> bytes:
    """A key as a line has it. ValueError if JSON escapes a character of it."""
    if any(character < " " or character in '"\\' for character in key):
        raise ValueError("a key needs escapes")
    return key.encode()


def _places(wanted: Wanted, array: np.ndarray) -> Iterable[tuple[int, int, int]]:
    """Width, first place and stride of each field of an input."""
    start = array.ctypes.data
    step = array.strides[0] if wanted.dtype == object else array.itemsize * max(wanted.width, 1)
    for i in range(len(wanted.keys)):
        yield wanted.width, start + i * step, array.strides[0]


def _strings(row: np.ndarray, end: int) -> list[str]:
    """The texts that the kernel has put one behind the other, each with a newline."""
    return row[: end - row.ctypes.data].tobytes().decode().split("\n")[:-1]


# Writing


class _Layout:
    """The pieces of the lines of one run, and the memory they point to."""

    def __init__(self, line: Sequence[bytes | TextColumn | PlainIds]) -> None:
        self.count = 0
        self._pieces: list[tuple[Any, ...]] = []
        self._fixed_bytes = 0  # of each line
        self._more_bytes = 0  # of all lines together
        self._alive: list[Any] = []
        for part in line:
            self._add(part)

    @property
    def num_bytes(self) -> int:
        """The most that all lines can take."""
        return self._fixed_bytes * self.count + self._more_bytes

    def write(self, library: Kernel, out: np.ndarray, sizes: np.ndarray) -> int:
        """Write the lines and their sizes; returns the bytes of all. RuntimeError."""
        pieces = (_Piece * len(self._pieces))(*starmap(_Piece, self._pieces))
        written: int = library.write_lines(pieces, len(pieces), self.count, out.ctypes.data, len(out), sizes.ctypes.data)
        if written == NOT_PLAIN:
            raise RuntimeError("the columns do not fit the ids")
        return written

    def _add(self, part: bytes | TextColumn | PlainIds) -> None:
        if isinstance(part, bytes):
            self._constant(part)
        elif isinstance(part, TextColumn):
            self._constant(part.before)
            self._column(part.pieces)
            self._constant(part.after)
        else:
            self._ids(part)
            self.count = len(part)

    def _constant(self, text: bytes) -> None:
        if text:
            self._fixed_bytes += len(text)
            self._pieces.append((CONSTANT, self._pointer(np.frombuffer(text, np.int8)), len(text)))

    def _ids(self, ids: PlainIds) -> None:
        if ids.places is None:
            self._fixed_bytes += 2 * ID_BYTES + 2
            self._pieces.append((DIGITS, self._pointer(np.frombuffer(secrets.token_bytes(ID_BYTES * ids.count), np.int8))))
        else:
            self._more_bytes += int((ids.places[:, 1] - ids.places[:, 0]).sum())
            self._pieces.append((SPANS, self._pointer(ids.block), 0, 0, None, self._pointer(ids.places)))

    def _column(self, pieces: Pieces) -> None:
        if (
            isinstance(pieces, Numbers)
            and pieces.values.ndim <= 2
            and pieces.values.dtype.kind + str(pieces.values.itemsize) != "u8"
        ):
            self._numbers(pieces.values)
        elif isinstance(pieces, Labels):
            self._fixed_bytes += max(map(len, pieces.labels))
            labels, offsets = self._texts(pieces.labels)
            indexes = np.ascontiguousarray(pieces.indexes, np.int64)
            self._pieces.append((LABELS, self._pointer(indexes), 0, 8, labels, offsets, len(pieces.labels)))
        elif isinstance(pieces, Strings):
            self._more_bytes += len(pieces.encoded)
            encoded = np.frombuffer(pieces.encoded, np.int8)[2:]
            self._pieces.append((STRINGS, self._pointer(encoded), len(encoded)))
        else:
            texts = pieces.texts()
            self._more_bytes += sum(map(len, texts))
            self._pieces.append((TEXTS, None, 0, 0, *self._texts(texts)))

    def _numbers(self, values: np.ndarray) -> None:
        """Numbers of types that the kernel does not know become the next wider one, whose texts are the same."""
        if values.dtype not in NUMBER_KINDS:
            values = values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
        values = np.ascontiguousarray(values)
        count = values.shape[1] if values.ndim == 2 else 1
        kind = NUMBER_KINDS[values.dtype]
        self._fixed_bytes += NUMBER_BYTES[kind] * count
        self._pieces.append((kind, self._pointer(values), count, values.strides[0]))

    def _texts(self, texts: list[bytes]) -> tuple[int, int]:
        offsets = np.fromiter(accumulate(map(len, texts), initial=0), np.int64, len(texts) + 1)
        return self._pointer(np.frombuffer(b"".join(texts) or b" ", np.int8)), self._pointer(offsets)

    def _pointer(self, array: np.ndarray) -> int:
        self._alive.append(array)
        return array.ctypes.data


class Lines(NamedTuple):
    """Lines of results, one behind the other.

    sizes  int64 [N]: the bytes of each line
    """

    text: memoryview
    sizes: np.ndarray


class Memory:
    """Where the lines of a block are written: memory that blocks share, since each answer is sent before the next block is read.

    To fetch it anew for each block made a replica 50 MiB larger, because other memory comes to lie between.
    """

    def __init__(self) -> None:
        self._kept = np.empty(0, np.int8)

    def of(self, num_bytes: int) -> np.ndarray:
        """At least so much memory. What is more than KEPT_BYTES is not kept."""
        if num_bytes > KEPT_BYTES:
            return np.empty(num_bytes, np.int8)
        if num_bytes > len(self._kept):
            self._kept = np.empty(num_bytes, np.int8)
        return self._kept


def write(library: Kernel, runs: Sequence[Sequence[bytes | TextColumn | PlainIds]], memory: Memory) -> Lines:
    """The lines of several runs: one for each id. RuntimeError if a column is shorter than the ids, or a label is not there.

    runs  what each line of a run is made of, in order
    """
    layouts = [_Layout(line) for line in runs]
    out = memory.of(sum(layout.num_bytes for layout in layouts))
    sizes = np.empty(sum(layout.count for layout in layouts), np.int64)
    end = num_lines = 0
    for layout in layouts:
        end += layout.write(library, out[end:], sizes[num_lines:])
        num_lines += layout.count
    return Lines(out.data.cast("B")[:end], sizes)
