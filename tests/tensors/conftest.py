"""The servers of these tests: the shared one, and one with the misbehaving models of tests/streaming/graphs.py."""

from collections.abc import Iterator

import pytest

from tests.serving import Server, serving
from tests.streaming import graphs


@pytest.fixture(scope="session")
def tester(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One replica; a model may harm it often, as tests do."""
    data_dir = graphs.write_all(tmp_path_factory.mktemp("tensors") / "data")
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1", SLUICE_MODEL_FAULTS="1000") as running:
        yield running
