"""Who may do what: every call of the surface by somebody of each role, by an outsider, and with keys that open nothing here."""

import re

import pytest
import requests

from tests.clients import until
from tests.described import fault
from tests.projects.asking import BASES, refused
from tests.projects.calls import ROWS, Call, P, attribution_body, build_body, operations, refit_body
from tests.projects.house import OUTSIDER, READER, ROLES, House, named


@pytest.mark.parametrize("base", BASES)
def test_every_route_has_a_row(base: str) -> None:
    assert sorted(set(operations(base))) == sorted(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_each_role_may_do_what_its_row_says(house: House, name: str) -> None:
    row = ROWS[name]
    for role in ROLES:
        answer = send(house, name, named(role))
        if row.role is None or ROLES.index(role) >= ROLES.index(row.role):
            assert answer.status_code // 100 == 2, f"{role}: {answer.status_code} {answer.text[:500]}"
        else:
            error = refused(answer, 403, "role_too_low")
            assert error["Details"] == [{"Needed": row.role, "Has": role}]


@pytest.mark.parametrize("name", ROWS)
def test_other_callers_get_no_further(house: House, name: str) -> None:
    answer = send(house, name, OUTSIDER)
    if ROWS[name].role is None:
        assert answer.status_code // 100 == 2, answer.text
    else:
        refused(answer, 404, "unknown_team")
    method, call = name.partition(" ")[0], ROWS[name].call(house, named("Admin"))
    refused(call.send(house.client(READER), method), 403, "full_key_needed")
    for wrong in ("slu_" + "A" * 43, (named("Admin"), "0" * 32)):
        refused(call.send(house.admin.but(auth=wrong), method), 401, "unauthorized")


def send(house: House, name: str, user: str) -> requests.Response:
    method, _, path = name.partition(" ")
    client = house.client(user).but(base=BASES[len(path) % 2])
    answer = ROWS[name].call(house, user).send(client, method)
    asked = answer.request.path_url.partition("?")[0].removeprefix(client.base)
    assert re.fullmatch(re.escape(path).replace(r"\{\}", "[^/]+"), asked), "the row asks another route"
    assert fault(answer, method, "/v1" + path) is None
    return answer


def test_the_admin_of_the_server_is_admin_of_every_team(house: House) -> None:
    for name in ("GET /projects/{}/{}", "PATCH /projects/{}/{}", "DELETE /projects/{}/{}"):
        call = ROWS[name].call(house, "admin")
        assert call.send(house.admin, name.partition(" ")[0]).status_code // 100 == 2


def test_only_a_manager_activates_with_what_is_made(house: House) -> None:
    active = {"activate": True}
    calls = [
        Call(f"{P}/datasets", {"upload_ids": [house.upload], "activate": True}),
        Call(f"{P}/build/model", build_body(house) | {"model_detail": build_body(house)["model_detail"] | active}),
        Call(f"{P}/models/{house.full.model['IId']}/refit", {"model_detail": refit_body(house)["model_detail"] | active}),
        Call(f"{P}/attributionset_align_dates", {"attributionjob_ids": [house.full.attribution["IId"]], "active": True}),
    ]
    for call in calls:
        error = refused(call.send(house.client(named("ModelDeveloper")), "POST"), 403, "role_too_low")
        assert error["Details"] == [{"Needed": "Manager", "Has": "ModelDeveloper"}]
        assert call.send(house.client(named("Manager")), "POST").status_code == 201


def test_rights_are_checked_before_anything_of_the_project_is_told(house: House) -> None:
    outsider, observer = house.client(OUTSIDER), house.client(named("Observer"))
    refused(outsider.but(project="nothing").get(), 404, "unknown_team")
    refused(outsider.but(team="nobody").get(), 404, "unknown_team")
    refused(observer.but(project="nothing").get(), 404, "unknown_project")
    refused(observer.but(project="nothing").post("/attributions", attribution_body(house)), 403, "role_too_low")
    refused(observer.post("/attributions", {"nonsense": 1}), 403, "role_too_low")


def test_members_read_the_data_and_stream_from_member_on(house: House) -> None:
    # Until the dataset is read, a query of a member is answered 404 as well, with Retry-After.
    until(lambda: house.admin.query(house.query).status_code == 200, what="the dataset of the project can be queried")
    streamed = f"/{house.full.model['Served']['Name'].replace('/', '/models/', 1)}"
    found = {}
    for user in (OUTSIDER, *map(named, ROLES)):
        asked, record = house.client(user).query(house.query), house.client(user).but(base="").ask("POST", streamed, json={})
        found[user] = asked.status_code, record.status_code in (403, 404)
    assert found.pop(OUTSIDER) == (404, True)
    assert found.pop(named("Observer")) == (200, True)
    assert set(found.values()) == {(200, False)}


def test_members_may_leave_but_for_the_last_admin(house: House) -> None:
    for role in ROLES:
        team = house.new_team(named(role), role)
        leaver = house.client(named(role))
        answer = leaver.ask("DELETE", f"/team/teams/{team}/members/{named(role)}")
        assert answer.status_code == 204, answer.text
        refused(leaver.ask("GET", f"/team/teams/{team}"), 404, "unknown_team")
    team = house.new_name("own")
    owner = house.client(OUTSIDER)
    assert owner.ask("POST", "/team/teams", json={"id": team, "name": "Own"}).status_code == 201
    refused(owner.ask("DELETE", f"/team/teams/{team}/members/{OUTSIDER}"), 409, "last_admin")
    refused(owner.ask("PATCH", f"/team/teams/{team}/members/{OUTSIDER}", json={"role": "Member"}), 409, "last_admin")
