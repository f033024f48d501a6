"""What sentence-transformers made of forty texts: vectors to hold ours against (tests/fixtures/make_reference.py wrote them)."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("fixtures") / "embeddings"


@dataclass(frozen=True, slots=True)
class Reference:
    """texts, and their vectors: float32 [texts, dim], of length 1."""

    texts: list[str]
    vectors: NDArray[np.float32]


def load(name: str) -> Reference:
    """The reference of one model, by the name of its folder; FileNotFoundError where there is none."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        return Reference(json.loads(arrays["texts"].tobytes()), arrays["vectors"])
