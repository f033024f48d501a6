"""A server with low limits that the tests of publishing share, and two users of it."""

from collections.abc import Iterator

import pytest

from tests.publishing.asking import LIMIT_BYTES, user
from tests.serving import Server, serving


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that keeps 3 versions and accepts models of 1 MiB."""
    settings = {"SLUICE_KEEP_VERSIONS": "3", "SLUICE_MODEL_LIMIT_BYTES": str(LIMIT_BYTES)}
    with serving(tmp_path_factory.mktemp("house") / "data", **settings) as running:
        yield running


@pytest.fixture(scope="session")
def eva(house: Server) -> tuple[str, str]:
    return user(house, "eva")


@pytest.fixture(scope="session")
def tom(house: Server) -> tuple[str, str]:
    return user(house, "tom")
