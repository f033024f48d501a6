"""Hostile requests: in every field of every call something that does not belong there. None makes a 500, none tells what we are."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.openapi import public_path
from handlers.projects import ROUTES
from tests.projects.asking import BASES, assert_tells_nothing_of_us, checked, refused, strict_json
from tests.projects.calls import ROWS, Call, operation
from tests.projects.house import House

# The calls that take a body of JSON.
BODIES = sorted({operation(route) for route in ROUTES for body in route.bodies if isinstance(body, type)})
LARGE = 10**400
# What nobody expects in any place of a body, or of a path.
WRONG: list[Any] = [
    *(None, True, -1, 0, 1.5, 1e308, LARGE, 2**63, -(2**63) - 1, "", " ", "x", "\x00", "\ud800", "é" * 300, "1", "2018-13-45"),
    *("2018-01-07T00:00:00Z", "../../etc/passwd", "'; DROP TABLE project; --", '<b>&"', "\u202e", "admin", "NaN"),
    *([], [[]], [None], [{}], ["x"], [0], [LARGE], {}, {"": None}, {"__class__": "x"}, {"id": {"id": {}}}),
]
HOSTILE_IDS = [
    *("0", "-1", "01", "1.5", "1e3", "9" * 40, "x", "null", "*", "%00", "..%2f..", "%ff", "%C3%A9", "%20", "'%20or%201=1"),
]
JSON_BODIES = [
    *(b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"a":1}{', b'{"a":NaN}', b"[" * 100_000, b'{"a":' * 5000, b"\x00"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=5,
)


def assert_well_answered(answer: requests.Response, what: Any) -> None:
    """A good answer or a refusal, in the shape of the surface."""
    told = f"{answer.status_code} for {what!r:.300} at {answer.request.method} {answer.url:.300}\n{answer.text[:1000]}"
    assert answer.status_code < 500, told
    assert_tells_nothing_of_us(answer.text)
    if answer.status_code >= 400:
        body = strict_json(answer.content)
        assert list(body) == ["Error"], told
        checked(body["Error"])


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a body, the body itself first; of a list only the first two items."""
    yield path
    if isinstance(body, dict):
        for key in body:
            yield from places(body[key], (*path, key))
    elif isinstance(body, list):
        for i in range(min(2, len(body))):
            yield from places(body[i], (*path, i))


def put(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a body with another value in one place."""
    if not path:
        return value
    changed = copy.deepcopy(body)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def row_of(house: House, name: str) -> tuple[str, Call]:
    return name.partition(" ")[0], ROWS[name].call(house, "admin")


def with_body(house: House, name: str) -> tuple[str, Call]:
    method, call = row_of(house, name)
    assert call.body is not None, "its row has a body too"
    return method, call


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_value_in_every_place_of_every_body(house: House, name: str) -> None:
    method, call = with_body(house, name)
    for path in places(call.body):
        for value in WRONG:
            body = put(call.body, path, value)
            try:
                answer = Call(call.path, body, call.params).send(house.admin, method)
            except UnicodeEncodeError:
                continue  # requests itself cannot send a half of a surrogate pair
            assert_well_answered(answer, (path, value))


@pytest.mark.parametrize("name", BODIES)
def test_a_field_too_many_in_every_object_of_every_body(house: House, name: str) -> None:
    method, call = with_body(house, name)
    for path in places(call.body):
        inner = call.body
        for key in path:
            inner = inner[key]
        if isinstance(inner, dict) and "prior" not in path:
            answer = Call(call.path, put(call.body, (*path, "unheard_of"), 1), call.params).send(house.admin, method)
            assert answer.status_code == 422, path
            error = refused(answer, 422, "invalid_graph" if {"nodes", "edges"} & set(path) else "unknown_field")
            assert "unheard_of" in str(error["Details"]), error


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_not_what_they_should_be(house: House, name: str) -> None:
    method, call = with_body(house, name)
    for body in JSON_BODIES:
        answer = house.admin.ask(method, call.path, data=body, params=call.params)
        assert_well_answered(answer, body[:40])
        if body in (b"{", b"\xff\xfe", b"\x00", b'{"a":1}{'):
            refused(answer, 400, "bad_json")
    large = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'
    assert house.admin.ask(method, call.path, data=large, params=call.params).status_code == 413


@pytest.mark.parametrize("name", BODIES)
def test_any_content_type_will_do_for_json(house: House, name: str) -> None:
    method, call = with_body(house, name)
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        sent = {"data": json.dumps(call.body).encode(), "params": call.params, "headers": {"Content-Type": kind}}
        answer = house.admin.ask(method, call.path, **sent)
        assert answer.status_code // 100 == 2 or answer.status_code == 409, answer.text  # what is there already


@pytest.mark.parametrize("name", sorted(ROWS))
def test_hostile_ids_in_every_place_of_every_path(house: House, name: str) -> None:
    method, call = row_of(house, name)
    parts, wanted = call.path.split("/"), name.partition(" ")[2].split("/")
    for place, part in enumerate(wanted):
        for value in HOSTILE_IDS if part == "{}" else ():
            path = "/".join([*parts[:place], value, *parts[place + 1 :]])
            answer = Call(path, call.body, call.params, call.file).send(house.admin, method)
            assert_well_answered(answer, value)


def parameters() -> list[tuple[str, str]]:
    """Every parameter of a query, with the call that takes it."""
    return sorted({(operation(route), name) for route in ROUTES if "/docs" not in public_path(route) for name in route.query})


@pytest.mark.parametrize(("name", "parameter"), parameters())
def test_hostile_values_of_every_parameter(house: House, name: str, parameter: str) -> None:
    method, call = row_of(house, name)
    for value in [*HOSTILE_IDS, "", "\x00", "é", "a" * 5000, "0" * 20, "NaN", "../..", "<b>"]:
        answer = Call(call.path, call.body, call.params | {parameter: value}, call.file).send(house.admin, method)
        assert_well_answered(answer, (parameter, value))
    twice = Call(f"{call.path}?{parameter}=x&{parameter}=y", call.body, {}, call.file).send(house.admin, method)
    assert_well_answered(twice, "twice")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_wild_values_anywhere(house: House, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in BODIES if ROWS[name].role in ("ModelDeveloper", "DataManager")]))
    method, call = with_body(house, name)
    path = data.draw(st.sampled_from(list(places(call.body))))
    body = put(call.body, path, data.draw(json_values))
    try:
        answer = Call(call.path, body, call.params).send(house.admin, method)
    except (UnicodeEncodeError, requests.exceptions.InvalidJSONError):
        return  # what requests does not send
    assert_well_answered(answer, (path, body))


def test_unknown_paths_below_both_bases_are_refused_in_the_shape_of_the_surface(house: House) -> None:
    for base in BASES:
        client = house.admin.but(base=base)
        for path in ("/nothing", "/projects", "/projects/acme/demo/nothing", "/projects/acme/demo/models/1/nothing", "/team"):
            assert_well_answered(answer := client.ask("GET", path), path)
            assert answer.status_code == 404, answer.text
        refused(client.ask("PUT", "/team/teams", json={}), 405, "method_not_allowed")
