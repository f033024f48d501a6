from pathlib import Path

import pytest

from tests.engine.tasks.preview.asking import Datasets


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    """An empty root."""
    return Datasets(tmp_path)
