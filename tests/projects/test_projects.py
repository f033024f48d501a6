"""Projects: made, named and removed, with what is active in each."""

import pytest
import requests

from tests.projects.asking import Client, made, new_project, refused
from tests.projects.house import Full
from tests.projects.weeks import PATH, folders, wait_until, weekly
from tests.publishing.asking import user
from tests.serving import Server


@pytest.fixture
def team(server: Server) -> Client:
    """The admin, before any project."""
    return Client(server, "unmade")


def make(client: Client, **body: object) -> requests.Response:
    return client.ask("POST", f"/projects/{client.team}", json=body)


def test_a_project_is_made_shown_listed_and_renamed(team: Client) -> None:
    body = made(make(team, id="first-1", name="The first"))
    assert body == {"Id": "first-1", "Name": "The first", "ActiveDataset": None, "ActiveModels": [], "ActiveAttributionSet": None}
    client = team.but(project="first-1")
    assert made(client.get(), 200) == body
    assert made(client.patch("", {"name": "Renamed"}), 200) == body | {"Name": "Renamed"}
    assert body | {"Name": "Renamed"} in made(client.ask("GET", "/projects/admin"), 200)
    refused(make(team, id="first-1", name="Again"), 409, "name_taken")


@pytest.mark.parametrize("base", ["/v1", "/api/v1/api"])
def test_both_bases_have_the_same_projects(server: Server, base: str) -> None:
    client = new_project(server, base=base)
    other = client.but(base="/v1" if base != "/v1" else "/api/v1/api")
    assert made(client.get(), 200) == made(other.get(), 200)


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a" * 40, "a/b", "a.b", " a", None, 1])
def test_what_is_no_id_of_a_project_is_refused(team: Client, name: object) -> None:
    error = refused(make(team, id=name, name="Name"), 422, "bad_field")
    assert error["Details"][0]["Column"] == "id"


@pytest.mark.parametrize("body", [{"id": "fine"}, {"id": "fine", "name": ""}, {"id": "fine", "name": "x" * 101}])
def test_a_project_has_a_name_of_1_to_100_characters(team: Client, body: dict[str, str]) -> None:
    refused(make(team, **body), 422, "bad_field")


def test_a_project_cannot_have_an_id_that_would_make_a_dataset_of_the_team_its_own(team: Client) -> None:
    url = f"{team.server.url}/api/datasets/admin/taken-dataset-7"
    rows = {"data": b'{"a": 1}\n', "headers": {"Content-Type": "application/x-ndjson"}}
    assert requests.put(url, auth=team.server.auth, timeout=60, **rows).status_code in (200, 201)  # type: ignore[arg-type]
    refused(make(team, id="taken", name="Taken"), 409, "name_taken")
    made(make(team, id="taken-dataset", name="Free"))


def test_an_id_that_is_taken_by_a_project_is_told_as_that_also_when_the_project_has_datasets(full: Full) -> None:
    body = {"id": full.client.project, "name": "Again"}
    error = refused(full.client.ask("POST", "/projects/admin", json=body), 409, "name_taken")
    assert error["Message"] == f"The id {full.client.project} is taken: the team has a project of this id."


def test_a_removed_project_is_gone_with_its_files_and_datasets(server: Server) -> None:
    client = new_project(server)
    before = folders(server)
    client.joined([client.uploaded("Sales", weekly(3))], activate=True)
    title = {"dataset": f"admin/{client.project}-dataset-1", "wait": "30"}
    assert requests.get(server.url + "/splits", params=title, auth=server.auth, timeout=60).status_code == 200
    assert client.delete().status_code == 202
    for answer in (client.get(), client.get(PATH), client.get("/datasets/1"), client.delete(), client.patch("", {"name": "x"})):
        refused(answer, 404, "unknown_project")
    wait_until(lambda: folders(server) == before)
    wait_until(lambda: not (server.data_dir / "datasets" / "admin" / f"{client.project}-dataset-1").exists())
    wait_until(lambda: make(client, id=client.project, name="Again").status_code == 201)
    for path in ("/cache-reports", "/hf_datasets"):
        assert title["dataset"] not in requests.get(server.url + path, auth=server.auth, timeout=30).text
    assert made(client.get(), 200)["ActiveDataset"] is None
    assert made(client.upload("Sales", weekly(3)))["IId"] == 2, "numbers go on"


def test_others_find_no_projects_of_a_team(server: Server) -> None:
    client = new_project(server)
    stranger = client.but(auth=user(server, f"stranger-{client.project}"))
    refused(stranger.get(), 404, "unknown_team")
    refused(stranger.ask("GET", "/projects/admin"), 404, "unknown_team")
    refused(client.but(project="nothing").get(), 404, "unknown_project")
    refused(client.but(team="nobody").get(), 404, "unknown_team")
