from pathlib import Path

import pytest

from tests.engine.tasks.ingestion.uploads import Dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A dataset without rows."""
    return Dataset(tmp_path)
