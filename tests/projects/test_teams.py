"""Teams, their members and roles; what members may do with what the team has; and what only its projects may change."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from engine.roles import Role
from tests.clients import Raw, ndjson, until
from tests.datasets import asking as datasets
from tests.projects.asking import BASES, refused
from tests.projects.people import (
    ask,
    ask_as,
    new_member,
    new_team,
    new_token,
    new_user,
    put_project,
    remove_project,
    set_role,
)
from tests.publishing import asking as models
from tests.publishing.asking import read_only, user
from tests.publishing.uploads import config, times
from tests.server.commands.test_user import user as command
from tests.serving import Server
from tests.streaming.test_websocket import CLOSE, HANDSHAKE, TEXT, RawSocket

Person = tuple[str, str]
PATH = "/team/teams"
SOON_S = 30


@pytest.fixture
def eva(server: Server) -> Person:
    return new_user(server)


@pytest.fixture
def team(server: Server, eva: Person) -> str:
    """A team whose Admin is eva."""
    return new_team(server, auth=eva)


def members(server: Server, team: str, auth: Person | None = None) -> dict[str, str]:
    answer = ask(server, "GET", f"{PATH}/{team}/members", auth)
    assert answer.status_code == 200, answer.text
    return {one["User"]: one["Role"] for one in answer.json()}


# Which teams there are


def test_a_user_begins_with_a_team_of_its_own(server: Server, eva: Person) -> None:
    own = {"Id": eva[0], "Name": eva[0], "Role": "Admin", "Projects": []}
    for base in BASES:
        assert ask(server, "GET", PATH, eva, base=base).json() == [own]
        assert ask(server, "GET", f"{PATH}/{eva[0]}/", eva, base=base).json() == own
    assert members(server, eva[0], eva) == {eva[0]: "Admin"}


def test_a_user_whom_the_command_made_has_one_too(server: Server) -> None:
    key = command(server.data_dir, "add", "from-the-machine").stdout.strip()
    auth = ("from-the-machine", key)
    until(lambda: ask(server, "GET", PATH, auth).status_code == 200, SOON_S)
    assert [one["Id"] for one in ask(server, "GET", PATH, auth).json()] == ["from-the-machine"]


def test_who_makes_a_team_is_its_admin(server: Server, eva: Person) -> None:
    made = ask(server, "POST", PATH, eva, json={"id": "Blue.Team", "name": "Blå & <co>"})
    assert (made.status_code, made.json()) == (
        201,
        {"Id": "Blue.Team", "Name": "Blå & <co>", "Role": "Admin", "Projects": []},
    )
    assert members(server, "Blue.Team", eva) == {eva[0]: "Admin"}
    assert [one["Id"] for one in ask(server, "GET", PATH, eva).json()] == ["Blue.Team", eva[0]]


def test_the_admin_of_the_server_sees_and_changes_every_team(server: Server, eva: Person, team: str) -> None:
    listed = {one["Id"]: one["Role"] for one in ask(server, "GET", PATH).json()}
    assert listed[team] == listed[eva[0]] == listed["admin"] == "Admin"
    assert ask(server, "PATCH", f"{PATH}/{team}", json={"name": "Other"}).json()["Name"] == "Other"
    assert "admin" not in members(server, team), "without being in it"
    refused(ask(server, "GET", f"{PATH}/nothing"), 404, "unknown_team")
    refused(ask(server, "DELETE", f"{PATH}/nothing"), 404, "unknown_team")


def test_a_team_shows_its_projects(server: Server, eva: Person, team: str) -> None:
    put_project(server, team, "demo")
    put_project(server, team, "alpha")
    projects = [{"Id": "alpha", "Name": "alpha"}, {"Id": "demo", "Name": "demo"}]
    assert ask(server, "GET", f"{PATH}/{team}", eva).json()["Projects"] == projects
    assert {one["Id"]: one["Projects"] for one in ask(server, "GET", PATH, eva).json()} == {team: projects, eva[0]: []}


def test_an_outsider_learns_nothing_of_a_team(server: Server, team: str) -> None:
    tom = new_user(server)
    calls = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/members"), ("POST", "/members"), ("DELETE", "/members/tom")]
    for method, path in calls:
        there = ask(server, method, f"{PATH}/{team}{path}", tom, json={})
        absent = ask(server, method, f"{PATH}/no-such-team{path}", tom, json={})
        refused(there, 404, "unknown_team")
        assert there.content == absent.content
        assert there.headers.keys() == absent.headers.keys()


# Names


@pytest.mark.parametrize("name", ["", "a b", ".eva", "-eva", "eva/1", "eva:1", "éva", "a" * 101, "eva\n", "a\u0000", " a"])
def test_a_name_outside_the_alphabet_is_refused(server: Server, eva: Person, name: str) -> None:
    error = refused(ask(server, "POST", PATH, eva, json={"id": name, "name": "x"}), 422, "bad_field")
    assert error["Details"][0]["Column"] == "id"


@pytest.mark.parametrize("name", ["api", "V1", "team", "teams", "projects", "graph_instances", "models", "docs", "models.txt"])
def test_a_word_with_which_paths_begin_is_reserved(server: Server, eva: Person, name: str) -> None:
    refused(ask(server, "POST", PATH, eva, json={"id": name, "name": "x"}), 422, "reserved_name")


def test_users_teams_and_owners_share_one_namespace(server: Server, eva: Person, team: str) -> None:
    datasets.made(datasets.put(server, "orphan/data", [{"n": 1}]))
    for taken in (eva[0], eva[0].upper(), team, team.title(), "admin", "Admin", "sluice", "brandon", "orphan"):
        refused(ask(server, "POST", PATH, eva, json={"id": taken, "name": "x"}), 409, "name_taken")
    answer = ask_as(server.auth, "POST", f"{server.url}/api/users", json={"name": team})
    assert (answer.status_code, answer.json()) == (409, {"error": f"the name '{team}' is taken"})
    assert command(server.data_dir, "add", team).returncode == 1


def test_when_several_ask_for_a_name_at_once_one_gets_it(server: Server, eva: Person) -> None:
    def make(name: str) -> int:
        return ask(server, "POST", PATH, eva, json={"id": name, "name": "x"}).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(make, ["wanted", "Wanted"] * 4))
    assert sorted(statuses) == [201] + [409] * 7


# Members


def test_an_admin_takes_users_in_and_changes_their_roles(server: Server, eva: Person, team: str) -> None:
    tom = new_user(server)
    path = f"{PATH}/{team}/members"
    added = ask(server, "POST", path, eva, json={"user": tom[0], "role": "DataManager"})
    assert added.status_code == 201
    assert added.json() == sorted(
        [{"User": eva[0], "Role": "Admin"}, {"User": tom[0], "Role": "DataManager"}], key=lambda one: one["User"]
    )
    changed = ask(server, "POST", path, eva, json={"user": tom[0], "role": "Manager"})
    assert (changed.status_code, members(server, team, tom)[tom[0]]) == (200, "Manager")
    lowered = ask(server, "PATCH", f"{path}/{tom[0]}", eva, json={"role": "Observer"})
    assert (lowered.status_code, {one["User"]: one["Role"] for one in lowered.json()}[tom[0]]) == (200, "Observer")
    assert ask(server, "GET", f"{PATH}/{team}", tom).json()["Role"] == "Observer"
    assert ask(server, "DELETE", f"{path}/{tom[0]}", eva).status_code == 204
    refused(ask(server, "GET", f"{PATH}/{team}", tom), 404, "unknown_team")


def test_a_user_or_member_that_is_not_there_is_unknown(server: Server, eva: Person, team: str) -> None:
    tom = new_user(server)
    path = f"{PATH}/{team}/members"
    for name in ("no-such-user", "", "a/b", "admin ", "\u0000"):
        refused(ask(server, "POST", path, eva, json={"user": name, "role": "Member"}), 404, "unknown_user")
    refused(ask(server, "PATCH", f"{path}/{tom[0]}", eva, json={"role": "Member"}), 404, "unknown_user")
    refused(ask(server, "DELETE", f"{path}/{tom[0]}", eva), 404, "unknown_user")
    assert members(server, team) == {eva[0]: "Admin"}


@pytest.mark.parametrize("role", ["Owner", "admin", "ADMIN", "", None, 6, ["Admin"]])
def test_a_word_that_is_no_role_is_refused(server: Server, eva: Person, team: str, role: object) -> None:
    error = refused(ask(server, "POST", f"{PATH}/{team}/members", eva, json={"user": "admin", "role": role}), 422, "bad_field")
    assert error["Details"][0]["Column"] == "role"


@pytest.mark.parametrize("role", [role for role in Role if role < Role.ADMIN], ids=lambda role: role.word)
def test_a_member_below_admin_changes_no_team_and_is_told_which_role_is_needed(server: Server, team: str, role: Role) -> None:
    tom = new_member(server, team, role)
    calls = [
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/members", {"user": tom[0], "role": "Admin"}),
        ("PATCH", f"/members/{tom[0]}", {"role": "Admin"}),
        ("DELETE", "/members/admin", None),
    ]
    for method, path, body in calls:
        error = refused(ask(server, method, f"{PATH}/{team}{path}", tom, json=body), 403, "role_too_low")
        assert error["Details"] == [{"Needed": "Admin", "Has": role.word}]
    assert members(server, team, tom)[tom[0]] == role.word


def test_a_refusal_of_a_role_comes_before_the_body(server: Server, team: str) -> None:
    tom = new_member(server, team, Role.MANAGER)
    with Raw(server) as client:
        client.ask("PATCH", f"/v1/team/teams/{team}", auth=tom, Content_Length="1000", Expect="100-continue")
        assert client.head().status == 403


@pytest.mark.parametrize("end", ["role", "membership", "key"])
def test_a_body_that_comes_after_the_role_has_ended_changes_nothing(server: Server, team: str, end: str) -> None:
    """Otherwise somebody could keep requests open, and with them take back what is taken away."""
    tom = new_member(server, team, Role.ADMIN)
    body = f'{{"user":"{tom[0]}","role":"Admin"}}'.encode()
    with Raw(server) as client:
        client.ask("POST", f"/v1/team/teams/{team}/members", auth=tom, Content_Length=str(len(body)), Expect="100-continue")
        assert client.head().status == 100
        client.send(body[:-1])
        if end == "key":
            assert ask_as(server.auth, "POST", f"{server.url}/api/users/{tom[0]}/keys", json={"kind": "full"}).status_code == 201
        elif end == "role":
            set_role(server, team, tom[0], Role.MANAGER)
        else:
            assert ask(server, "DELETE", f"{PATH}/{team}/members/{tom[0]}").status_code == 204
        client.send(body[-1:])
        assert client.head().status == {"role": 403, "membership": 404, "key": 401}[end]
    assert members(server, team).get(tom[0]) == {"role": "Manager", "membership": None, "key": "Admin"}[end]


def test_members_leave_but_for_the_last_admin(server: Server, eva: Person, team: str) -> None:
    tom, ann = new_member(server, team, Role.OBSERVER), new_member(server, team, Role.ADMIN)
    path = f"{PATH}/{team}/members"
    assert ask(server, "DELETE", f"{path}/{tom[0]}", tom).status_code == 204
    assert ask(server, "DELETE", f"{path}/{eva[0]}", eva).status_code == 204
    refused(ask(server, "DELETE", f"{path}/{ann[0]}", ann), 409, "last_admin")
    refused(ask(server, "PATCH", f"{path}/{ann[0]}", ann, json={"role": "Manager"}), 409, "last_admin")
    refused(ask(server, "POST", path, json={"user": ann[0], "role": "Manager"}), 409, "last_admin")
    assert members(server, team) == {ann[0]: "Admin"}


def test_admins_who_leave_at_once_leave_one_behind(server: Server, eva: Person, team: str) -> None:
    admins = [eva, *(new_member(server, team, Role.ADMIN) for _ in range(4))]
    with ThreadPoolExecutor(5) as threads:
        left = list(threads.map(lambda one: ask(server, "DELETE", f"{PATH}/{team}/members/{one[0]}", one).status_code, admins))
    assert sorted(left) == [204] * 4 + [409]
    assert list(members(server, team).values()) == ["Admin"]


def test_a_user_is_always_admin_of_its_own_team(server: Server, eva: Person) -> None:
    ann = new_member(server, eva[0], Role.ADMIN)
    path = f"{PATH}/{eva[0]}/members/{eva[0]}"
    for who in (eva, ann, server.auth):
        refused(ask(server, "DELETE", path, who), 409, "last_admin")
        refused(ask(server, "PATCH", path, who, json={"role": "Observer"}), 409, "last_admin")
        refused(ask(server, "DELETE", f"{PATH}/{eva[0]}", who), 409, "last_admin")


# How teams end


def test_a_team_with_projects_stays(server: Server, eva: Person, team: str) -> None:
    put_project(server, team, "demo")
    refused(ask(server, "DELETE", f"{PATH}/{team}", eva), 409, "team_not_empty")
    remove_project(server, team, "demo")
    assert ask(server, "DELETE", f"{PATH}/{team}", eva).status_code == 204
    refused(ask(server, "GET", f"{PATH}/{team}", eva), 404, "unknown_team")
    refused(ask(server, "DELETE", f"{PATH}/{team}", eva), 404, "unknown_team")


def test_what_a_removed_team_had_goes_to_nobody(server: Server, eva: Person, team: str) -> None:
    datasets.made(datasets.put(server, f"{team}/left", [{"n": 1}], auth=eva))
    assert ask(server, "DELETE", f"{PATH}/{team}", eva).status_code == 204
    assert datasets.ask("GET", server, f"{team}/left", eva).status_code == 404
    refused(ask(server, "POST", PATH, eva, json={"id": team, "name": "x"}), 409, "name_taken")
    assert datasets.ask("DELETE", server, f"{team}/left").status_code == 204
    assert new_team(server, team, eva) == team


def test_a_removed_user_is_in_no_team_any_more(server: Server, team: str) -> None:
    tom = new_member(server, team, Role.MANAGER)
    assert command(server.data_dir, "remove", tom[0]).returncode == 0
    assert tom[0] not in members(server, team)
    namesake = user(server, tom[0])
    refused(ask(server, "GET", f"{PATH}/{team}", namesake), 404, "unknown_team")


def test_the_team_of_a_removed_user_stays_while_others_need_it(server: Server) -> None:
    alone, shared, working = (new_user(server) for _ in range(3))
    ann = new_member(server, shared[0], Role.MEMBER)
    put_project(server, working[0], "demo")
    for name, _ in (alone, shared, working):
        assert command(server.data_dir, "remove", name).returncode == 0
    teams = {one["Id"] for one in ask(server, "GET", PATH).json()}
    assert {alone[0], shared[0], working[0]} & teams == {shared[0], working[0]}
    assert members(server, shared[0], ann) == {ann[0]: "Member"}
    assert ask_as(server.auth, "POST", f"{server.url}/api/users", json={"name": shared[0]}).status_code == 409
    assert ask_as(server.auth, "POST", f"{server.url}/api/users", json={"name": alone[0]}).status_code == 201


# What members may do on other surfaces


@pytest.fixture
def owned(server: Server, team: str) -> str:
    """The team with a private model and a private dataset, both named `plan`."""
    assert models.put(server, f"{team}/plan", times(2), config=config()).status_code == 201
    datasets.made(datasets.put(server, f"{team}/plan", [{"n": 7}]))
    return team


def streamed(server: Server, team: str, auth: Person) -> int:
    url = server.model(f"{team}/plan") + "/?bulk=true"
    return requests.post(url, data=ndjson([{"x": 1}]), auth=auth, timeout=30).status_code


def queried(server: Server, team: str, auth: Person) -> int:
    query = {"query": f'SELECT n FROM "hub://{team}/plan"'}
    return requests.post(f"{server.url}/api/query/v1", json=query, auth=auth, timeout=60).status_code


def previewed(server: Server, team: str, auth: Person) -> int:
    url = f"{server.url}/rows?dataset={team}/plan&config=default&split=train&wait=30"
    return requests.get(url, auth=auth, timeout=60).status_code


def written(server: Server, team: str, auth: Person) -> int:
    return int(datasets.post(server, f"{team}/plan", [{"n": 8}], auth=auth).status_code)


def published(server: Server, team: str, auth: Person) -> int:
    return models.put(server, f"{team}/other", times(3), config=config(), auth=auth).status_code


# What is done -> who may, and what a member below hears.
DONE = {
    queried: (Role.OBSERVER, 404),
    previewed: (Role.OBSERVER, 404),
    streamed: (Role.MEMBER, 404),
    written: (Role.DATA_MANAGER, 403),
    published: (Role.MODEL_DEVELOPER, 404),
}


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: role.word if role else "outsider")
def test_what_a_team_has_is_used_and_changed_as_the_role_says(server: Server, owned: str, role: Role | None) -> None:
    tom = new_member(server, owned, role) if role else new_user(server)
    for done, (needed, refusal) in DONE.items():
        status = done(server, owned, tom)
        if role and role >= needed:
            assert status < 300, done.__name__
        else:
            assert status == (refusal if role else 404), done.__name__


def test_a_read_only_key_of_a_member_reads_and_predicts_and_changes_nothing(server: Server, owned: str) -> None:
    tom = read_only(server, new_member(server, owned, Role.ADMIN))
    assert [done(server, owned, tom) for done in (queried, previewed, streamed, written, published)] == [200, 200, 200, 403, 403]


def test_a_team_is_listed_with_what_it_has(server: Server, owned: str) -> None:
    tom, ann = new_member(server, owned, Role.MEMBER), new_member(server, owned, Role.OBSERVER)

    def listed(auth: Person) -> tuple[set[str], set[str]]:
        found = requests.get(f"{server.url}/api/models", auth=auth, timeout=30).json()["models"]
        return {one["name"] for one in found if one["owner"] == owned}, set(datasets.titles(server, auth)) & {f"{owned}/plan"}

    assert listed(tom) == ({"plan"}, {f"{owned}/plan"})
    assert listed(ann) == (set(), {f"{owned}/plan"})
    assert listed(new_user(server)) == (set(), set())


def test_a_role_counts_from_the_next_request_on(server: Server, eva: Person, owned: str) -> None:
    tom = new_user(server)
    token = (tom[0], new_token(server, tom))
    for _ in range(3):
        for auth in (tom, token):
            assert streamed(server, owned, auth) == 404
        set_role(server, owned, tom[0], Role.MEMBER)
        for auth in (tom, token):
            assert streamed(server, owned, auth) == 200
        assert ask(server, "DELETE", f"{PATH}/{owned}/members/{tom[0]}", eva).status_code == 204


# What rests on a role ends with it


def test_a_stream_through_a_model_of_the_team_ends_with_the_role(server: Server, eva: Person, owned: str) -> None:
    tom, ann = new_member(server, owned, Role.MEMBER), new_member(server, owned, Role.MEMBER)
    with Raw(server) as client, Raw(server) as other:
        for one, auth in ((client, tom), (other, ann)):
            one.ask("POST", f"/{owned}/models/plan?bulk=true", auth=auth, Transfer_Encoding="chunked")
            one.chunk(b'{"x":1}\n')
            assert one.head().status == 200
            assert one.line()["result"]
        set_role(server, owned, tom[0], Role.OBSERVER)
        assert client.line()["code"] == "key_revoked"
        client.rest()
        assert client.was_cut
        other.chunk(b'{"x":1}\n')
        other.end()
        assert len(other.rest().splitlines()) == 1, "nobody else notices"
        assert not other.was_cut


def test_a_stream_through_a_shared_model_needs_no_role(server: Server, owned: str) -> None:
    assert models.patch(server, f"{owned}/plan", shared=True).status_code == 200
    tom = new_member(server, owned, Role.MEMBER)
    with Raw(server) as client:
        client.ask("POST", f"/{owned}/models/plan?bulk=true", auth=tom, Transfer_Encoding="chunked")
        client.chunk(b'{"x":1}\n')
        assert client.head().status == 200
        assert client.line()["result"]
        assert ask(server, "DELETE", f"{PATH}/{owned}/members/{tom[0]}").status_code == 204
        assert streamed(server, owned, tom) == 200
        client.chunk(b'{"x":1}\n')
        client.end()
        assert len(client.rest().splitlines()) == 1
        assert not client.was_cut


def test_a_websocket_to_a_model_of_the_team_ends_with_the_role(server: Server, owned: str) -> None:
    tom = new_member(server, owned, Role.MEMBER)
    with RawSocket(server) as client:
        client.ask("GET", f"/{owned}/models/plan", auth=tom, **HANDSHAKE)
        assert client.head().status == 101
        client.frame(TEXT, b'{"x":1}')
        assert client.receive_frame()[0] == TEXT
        assert ask(server, "DELETE", f"{PATH}/{owned}/members/{tom[0]}", tom).status_code == 204
        opcode, payload = client.receive_frame()
        assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 1008)


def test_rows_that_come_after_the_role_has_ended_are_not_written(server: Server, owned: str) -> None:
    tom = new_member(server, owned, Role.DATA_MANAGER)
    with Raw(server) as client:
        kind = {"Content_Type": "application/x-ndjson", "Transfer_Encoding": "chunked"}
        client.ask("POST", f"/api/datasets/{owned}/plan/rows", auth=tom, **kind)
        client.chunk(ndjson([{"n": 9}]))
        until(lambda: list((server.data_dir / "datasets" / owned / "plan" / ".sluice" / "staging").glob("*")))
        set_role(server, owned, tom[0], Role.MEMBER)
        assert client.head().status == 403
    assert datasets.described(server, f"{owned}/plan")["version"] == 1


# What a project made


MADE = ["demo-dataset-9", "demo-attribution-1", "demo-model-4", "demo-model-100000"]
# Names that look like these, and are not.
FREE = ["demo-dataset-0", "demo-dataset-09", "demo-dataset-", "demo-dataset-9x", "demo2-dataset-9", "demo-set-1", "Demo-model-1"]


@pytest.mark.parametrize("name", MADE)
def test_what_a_project_made_is_made_by_nobody_else(server: Server, eva: Person, team: str, name: str) -> None:
    put_project(server, team, "demo")
    for auth in (eva, server.auth):
        assert datasets.put(server, f"{team}/{name}", [{"n": 1}], auth=auth).status_code == 403
        assert models.put(server, f"{team}/{name}", times(2), auth=auth, config=config()).status_code == 403
    assert not (server.data_dir / "datasets" / team / name).exists()
    assert not (server.data_dir / "models" / team / name).exists()


@pytest.mark.parametrize("name", FREE)
def test_names_of_another_form_are_free(server: Server, eva: Person, team: str, name: str) -> None:
    put_project(server, team, "demo")
    assert datasets.put(server, f"{team}/{name}", [{"n": 1}], auth=eva).status_code == 201


def test_what_a_project_made_is_read_everywhere_and_changed_nowhere_else(server: Server, eva: Person, team: str) -> None:
    title = f"{team}/demo-model-1"
    datasets.made(datasets.put(server, title, [{"n": 1}], auth=eva))
    assert models.put(server, title, times(2), auth=eva, config=config()).status_code == 201
    put_project(server, team, "demo")
    changes = [
        datasets.put(server, title, [{"n": 2}], auth=eva),
        datasets.post(server, title, [{"n": 2}], auth=eva),
        datasets.delete_rows(server, title, "n = 1", auth=eva),
        datasets.ask("PATCH", server, title, eva, {"visibility": "public"}),
        datasets.ask("DELETE", server, title, eva),
        models.put(server, title, times(3), auth=eva, config=config()),
        models.patch(server, title, eva, shared=True),
        models.delete(server, title, auth=eva),
        models.delete(server, title, "?version=1"),
    ]
    assert [answer.status_code for answer in changes] == [403] * len(changes)
    assert models.predict(server, title, auth=eva, x=1)["result"] == {"y": 2}
    assert datasets.described(server, title)["version"] == 1
    put_project(server, team, "demo", is_removed=True)
    assert models.delete(server, title, auth=eva).status_code == 403, "until the project is gone"
    remove_project(server, team, "demo")
    assert models.delete(server, title, auth=eva).status_code == 200


def test_a_project_of_one_team_says_nothing_about_names_of_another(server: Server, eva: Person, team: str) -> None:
    put_project(server, team, "demo")
    datasets.made(datasets.put(server, f"{eva[0]}/demo-dataset-1", [{"n": 1}], auth=eva))


# Paths


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/team", "/api/v1/nothing", "/api/v1/api", "/v1/projects"])
def test_an_unknown_path_is_refused_in_the_shape_of_this_surface(server: Server, path: str) -> None:
    refused(requests.get(server.url + path, timeout=30), 404, "not_found")


def test_the_paths_of_other_surfaces_keep_their_shapes(server: Server) -> None:
    assert "error" in requests.get(f"{server.url}/v1/models/nothing", timeout=30).json()
    assert requests.get(f"{server.url}/v1/models/nothing", timeout=30).json()["error"]["type"] == "invalid_request_error"
    assert requests.get(f"{server.url}/v1/embeddings", timeout=30).json()["error"]["code"] == "method_not_supported"
    assert requests.get(f"{server.url}/api/nothing", timeout=30).json() == {"error": "not found"}


def test_a_method_that_a_path_does_not_take_is_refused_in_this_shape(server: Server) -> None:
    answer = ask(server, "PUT", f"{PATH}/acme", json={})
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD, PATCH, DELETE"
