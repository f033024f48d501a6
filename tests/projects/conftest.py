"""One server for the tests of projects; a project of its own for each test that wants one, and one that has everything."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.tasks.projects import sets
from tests.projects import files
from tests.projects.asking import Client, new_project
from tests.projects.files import Sheet
from tests.projects.house import Full, House, filled, housed
from tests.serving import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Default settings, with one replica for records. A test that changes settings, kills or fills the server starts its own."""
    with serving(tmp_path_factory.mktemp("projects") / "data", SLUICE_SCORE_REPLICAS="1") as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def client(server: Server) -> Client:
    """The admin, in an empty project."""
    return new_project(server)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sheet]:
    """60 weeks of sales, two channels, a series and two events: the files by type."""
    return files.of(sets.plain(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="session")
def mediated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sheet]:
    """156 weeks in which TV acts on sales directly and through search."""
    return files.of(sets.mediated(tmp_path_factory.mktemp("mediated"), 0))


@pytest.fixture(scope="session")
def full(server: Server, plain: dict[str, Sheet]) -> Full:
    client = new_project(server)
    return filled(client, plain)


@pytest.fixture(scope="session")
def full_mediated(server: Server, mediated: dict[str, Sheet]) -> Full:
    """The same of the mediated set, with its graph."""
    return filled(new_project(server), mediated, sets.mediated_graph())


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, plain: dict[str, Sheet]) -> Iterator[House]:
    with housed(tmp_path_factory.mktemp("house") / "data", plain) as found:
        yield found


@pytest.fixture
def sent(tmp_path: Path, plain: dict[str, Sheet]) -> Path:
    """A file of sales on disk, as a script opens it."""
    path = tmp_path / "Sales.csv"
    path.write_bytes(plain["Sales"].csv())
    return path
