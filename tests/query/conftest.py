"""A server for the query tests: the small datasets of tql.yaml, and facts with seeded vectors of 384 numbers."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests import corpora
from tests.query.asking import put, put_table, unit_vectors
from tests.query.statements import tables
from tests.serving import Server, serving

NUM_FACTS = 1000
DIM = 384


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Default settings. A test that kills replicas or changes a dataset makes its own server or its own dataset."""
    with serving(tmp_path_factory.mktemp("query") / "data") as running:
        for table in tables().values():
            put_table(running, table)
        yield running


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    """float32 [NUM_FACTS, DIM]: the vectors of the facts."""
    return unit_vectors(NUM_FACTS, DIM)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """The texts of the facts: real ones where they were fetched, else made ones."""
    if corpora.RANDFACTS.path.is_file():
        return list(corpora.facts()[:NUM_FACTS])
    return [f"Fact {i} is about {['bees', 'honey', 'rivers', 'stones'][i % 4]} {i % 7}." for i in range(NUM_FACTS)]


@pytest.fixture(scope="session")
def facts(server: Server, vectors: np.ndarray, texts: list[str]) -> str:
    """The dataset `admin/facts`: n, text, embedding, part (0 to 49), doc, and metadata with the same doc."""
    rows = (
        {"n": i, "text": text, "embedding": vector, "part": i % 50, "doc": f"d{i % 10}", "metadata": {"doc": f"d{i % 10}"}}
        for i, (text, vector) in enumerate(zip(texts, vectors.tolist(), strict=True))
    )
    put(server, "admin/facts", rows, words="text")
    return "hub://admin/facts"
