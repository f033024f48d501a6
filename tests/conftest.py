"""What tests share: one server for all tests that do not need their own."""

import os
from collections.abc import Iterator

# As in the replicas, and before numpy is imported: with more threads small products wait for each other, ten times as long here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from tests.serving import Server, serving

# How long an example takes tells how busy the machine is. No property here is about time.
settings.register_profile("sluice", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sluice")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with default settings. A test that changes settings, kills or fills the server starts its own with `serving`."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running
