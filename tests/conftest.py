"""What tests share: one server for all tests that do not need their own."""

from collections.abc import Iterator

import pytest

from tests.serving import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings. A test that changes settings, kills or fills the server starts its own with `serving`."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running
