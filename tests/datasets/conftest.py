"""A server with a small embedding model that most tests of datasets share, and two users of it."""

from collections.abc import Iterator

import pytest

from tests.embeddings.asking import BERT, put_names
from tests.embeddings.small_models import SmallModels
from tests.publishing.asking import user
from tests.serving import Server, serving


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return SmallModels(tmp_path_factory.mktemp("small-models"))


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Server]:
    """A server whose first embedding model has random weights, and whose lines have 10,000 bytes at most."""
    data_dir = tmp_path_factory.mktemp("datasets") / "data"
    small.put(data_dir, f"admin/{BERT}")
    put_names(data_dir, BERT)
    with serving(data_dir, SLUICE_LINE_LIMIT_BYTES="10000", SLUICE_DATASET_VERSIONS="5") as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="session")
def eva(house: Server) -> tuple[str, str]:
    return user(house, "eva")


@pytest.fixture(scope="session")
def tom(house: Server) -> tuple[str, str]:
    return user(house, "tom")
