"""Fitted models that several tests read."""

from pathlib import Path

import pytest

from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import SMALL_HMC, Data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return sets.plain(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def model(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small fit of the default graph."""
    folder = tmp_path_factory.mktemp("model")
    part, _, _ = sets.task("fit", sets.fit_header(data, data.check()["Instance"], folder, **SMALL_HMC))
    assert "refused" not in part
    return folder


@pytest.fixture(scope="session")
def mediated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Path]:
    """A mediated set, and a MAP fit of its graph."""
    data = sets.mediated(tmp_path_factory.mktemp("mediated"), 0)
    folder = tmp_path_factory.mktemp("mediated-model")
    sets.task("fit", sets.fit_header(data, data.check(sets.mediated_graph())["Instance"], folder))
    return data, folder
