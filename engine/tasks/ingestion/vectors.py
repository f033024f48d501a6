"""The task `vectors`: what a model computed from the texts of one block is kept beside the block, until the upload is sealed."""

import binascii
from pathlib import Path

import numpy as np

from engine.frames import LINE_END, Header
from engine.tasks.query.segments import Vectors


def keep(header: Header, payload: memoryview) -> Header:
    """The docstring of the family has header and answer. ValueError when vectors are missing or too many: a fault of ours."""
    num_values = header["lines"] * header["dim"]
    data = bytes(payload) if header["form"] == "f32" else _decoded(bytes(payload))
    if len(data) != 4 * num_values:
        raise ValueError(f"{len(data)} bytes are not {header['lines']} vectors of {header['dim']} numbers")
    vectors_path(Path(header["staging"]), header["number"], header["column"]).write_bytes(data)
    return {}


def vectors_path(staging: Path, number: int, column: int) -> Path:
    return staging / f"{number}.c{column}.f32"


def read_vectors(path: Path, num_texts: int, dim: int) -> Vectors:
    """float32 [num_texts * dim]; a block without texts has no file."""
    vectors = np.fromfile(path, dtype="<f4").astype(np.float32) if num_texts else np.empty(0, np.float32)
    if len(vectors) != num_texts * dim:
        raise ValueError(f"{path.name} has {len(vectors)} numbers for {num_texts} texts")
    return vectors


def _decoded(lines: bytes) -> bytes:
    """The bytes of JSON strings of base64, a line each."""
    return b"".join(binascii.a2b_base64(line[1:-1]) for line in lines.split(LINE_END) if line)
