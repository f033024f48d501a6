"""The vectors of sentence-transformers for forty texts, to compare ours with; tests/fixtures/make_reference.py wrote them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("fixtures") / "embeddings"


@dataclass(frozen=True, slots=True)
class Reference:
    """Texts and their vectors: float32 [texts, dim], each of length 1."""

    texts: list[str]
    vectors: NDArray[np.float32]


def load(name: str) -> Reference:
    """The reference of one model, by the name of its folder. FileNotFoundError when there is none."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return Reference(json.loads(arrays["texts"].tobytes()), arrays["vectors"])
