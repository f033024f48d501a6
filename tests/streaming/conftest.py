"""A server that also has the misbehaving models of graphs.py, shared by the tests that do not kill it."""

from collections.abc import Iterator

import pytest

from tests.serving import Server, serving
from tests.streaming import graphs


@pytest.fixture(scope="session")
def tester(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Default settings, but a model may harm many replicas, as tests do."""
    data_dir = graphs.write_all(tmp_path_factory.mktemp("tester") / "data")
    with serving(data_dir, SLUICE_MODEL_FAULTS="1000") as running:
        yield running
