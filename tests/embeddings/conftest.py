"""Servers for the embeddings tests. Most tests share one with default settings and small models beside the shipped ones."""

from collections.abc import Callable, Iterator

import pytest

from tests.embeddings.asking import BERT, MPNET, WIDE, Alone, put_names
from tests.embeddings.small_models import WIDE as WIDE_SIZES
from tests.embeddings.small_models import SmallModels
from tests.serving import Server, serving

LISTED = ["# ours", f"{BERT}  # random weights", "", "  ", f"admin/{MPNET}", "nowhere", BERT, f"{WIDE}#", "#"]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return SmallModels(tmp_path_factory.mktemp("small-models"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Server]:
    """A server with default settings, three small models of the owner `admin`, and a models.txt with everything it may contain."""
    data_dir = tmp_path_factory.mktemp("embeddings") / "data"
    small.put(data_dir, f"admin/{BERT}")
    small.put(data_dir, f"admin/{MPNET}", "mpnet")
    small.put(data_dir, f"admin/{WIDE}", sizes=WIDE_SIZES)
    put_names(data_dir, *LISTED)
    with serving(data_dir) as running:
        yield running


@pytest.fixture(scope="session")
def alone(server: Server) -> Iterator[Callable[[str], Alone]]:
    """For a model, the function that gives the vector of each text from a request of its own."""
    known: dict[str, Alone] = {}

    def of(model: str) -> Alone:
        if model not in known:
            known[model] = Alone(server, model)
        return known[model]

    yield of
    for each in known.values():
        each.close()
