"""Who may ask what: every route, asked by every kind of caller, about every kind of model.

What a route must answer follows from its documented `key` alone, by the table RULES. A route whose key is not in the table fails.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests

from handlers.datasets.admission import READER
from handlers.embeddings.admission import KEY as WHILE_OPEN
from handlers.http.routes import Route
from handlers.openapi import public_path
from handlers.preview.admission import KEY as PREVIEW_KEY
from handlers.preview.admission import LIST_KEY
from handlers.preview.queue import HOOK_KEY
from server.app import ROUTES
from tests.embeddings.small_models import SmallModels
from tests.publishing.asking import read_only, user
from tests.serving import Server, serving

Auth = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Caller:
    """user is None without credentials; kind is `none`, `wrong`, `read_only`, `full` or `admin`."""

    user: str | None
    kind: str

    def owns(self, target: "Target") -> bool:
        return self.kind == "admin" or self.user == target.owner


@dataclass(frozen=True, slots=True)
class Target:
    """A model, or a dataset of the same name, as the people who ask see it."""

    owner: str
    name: str
    is_shared: bool


CALLERS = {
    "nobody": Caller(None, "none"),
    "eva with a wrong key": Caller("eva", "wrong"),
    "eva, read-only": Caller("eva", "read_only"),
    "eva": Caller("eva", "full"),
    "tom, read-only": Caller("tom", "read_only"),
    "tom": Caller("tom", "full"),
    "admin, read-only": Caller("admin", "read_only"),
    "admin": Caller("admin", "admin"),
}
TARGETS = [Target("eva", "hidden", False), Target("eva", "open", True), Target("tom", "own", False), Target("sluice", "iris", True)]
NO_TARGET = Target("nobody", "nothing", True)
MAY = "may"
Expected = int | str


def nobody_asked(caller: Caller, target: Target) -> Expected:
    return MAY


def any_key(caller: Caller, target: Target) -> Expected:
    """Reads what the caller may see."""
    if caller.kind in ("none", "wrong"):
        return 401
    if target is NO_TARGET or caller.owns(target):
        return MAY
    if caller.kind == "read_only":
        return 403
    return MAY if target.is_shared else 404


def full_key(caller: Caller, target: Target) -> Expected:
    return {"none": 401, "wrong": 401, "read_only": 403}.get(caller.kind, MAY)


def admins_key(caller: Caller, target: Target) -> Expected:
    return {"none": 401, "wrong": 401, "admin": MAY}.get(caller.kind, 403)


def owners_full_key(caller: Caller, target: Target) -> Expected:
    """Changes a model."""
    if caller.kind in ("none", "wrong", "read_only"):
        return full_key(caller, target)
    if caller.owns(target):
        return MAY
    return 403 if target.is_shared else 404


def while_open(caller: Caller, target: Target) -> Expected:
    """Under default settings the surface is open; what another user does not share is not there."""
    if caller.kind == "wrong":
        return 401
    return MAY if target.is_shared or caller.owns(target) else 404


def unless_wrong(caller: Caller, target: Target) -> Expected:
    """Under default settings everybody may ask, but nobody with a credential that is wrong."""
    return 401 if caller.kind == "wrong" else MAY


def reads_dataset(caller: Caller, target: Target) -> Expected:
    """A read-only key reads what its user reads."""
    if caller.kind in ("none", "wrong"):
        return 401
    return MAY if target.is_shared or caller.owns(target) else 404


# Files that paths with `{file}` have for everybody.
FILES = {"/docs/{file}": "start.js", "/static/{file}": "preview.js"}
# What the documentation calls the key of a route -> what a caller gets for a target.
RULES: dict[str, Callable[[Caller, Target], Expected]] = {
    "none": nobody_asked,
    "itself": any_key,
    "any": any_key,
    "full": full_key,
    "admin": admins_key,
    "full, or the owner's": any_key,
    "the owner's full, or the admin's": owners_full_key,
    READER: reads_dataset,
    WHILE_OPEN: while_open,
    PREVIEW_KEY: while_open,
    LIST_KEY: unless_wrong,
    HOOK_KEY: unless_wrong,
}
# Requests that a caller who may ask survives: they delete, publish and change nothing. All others send `{}`, or nothing.
QUERIES = {"DELETE /{owner}/models/{model}": "?version=1", "DELETE /api/datasets/{org}/{dataset}": "?version=none"}


@dataclass(frozen=True, slots=True)
class House:
    server: Server
    auths: dict[str, Auth]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server with a private and a shared model of eva's, and a private one of tom's. All are embedding models, and listed.

    Each has a dataset of the same name beside it.
    """
    data_dir = tmp_path_factory.mktemp("rights") / "data"
    small = SmallModels(tmp_path_factory.mktemp("small"))
    for target in TARGETS[:3]:
        small.put(data_dir, f"{target.owner}/{target.name}", shared=target.is_shared)
    (data_dir / "models" / "models.txt").write_text("".join(f"{one.owner}/{one.name}\n" for one in TARGETS[:3]))
    (data_dir / "models").rename(data_dir / "later")  # an owner of models cannot be made a user
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        auths: dict[str, Auth] = {"nobody": None, "eva with a wrong key": ("eva", "0" * 32), "admin": server.auth}
        auths |= {name: user(server, name) for name in ("eva", "tom")}
        auths |= {f"{name}, read-only": read_only(server, auths[name]) for name in ("eva", "tom", "admin")}  # type: ignore[arg-type]
        (data_dir / "models").mkdir(exist_ok=True)
        for path in (data_dir / "later").iterdir():
            path.rename(data_dir / "models" / path.name)
        assert requests.post(f"{server.url}/api/models/reload", auth=server.auth, timeout=30).status_code == 200
        for target in TARGETS[:3]:
            url = f"{server.url}/api/datasets/{target.owner}/{target.name}"
            visibility = "public" if target.is_shared else "private"
            assert requests.put(url, data=b'{"n":1}', auth=server.auth, timeout=30).status_code == 201
            assert requests.patch(url, json={"visibility": visibility}, auth=server.auth, timeout=30).status_code == 200
            assert requests.get(server.url + "/rows" + shown(target), auth=server.auth, timeout=60).status_code == 200
        yield House(server, auths)


def shown(target: Target) -> str:
    """The query that names the split of a target's dataset, and waits until it is read."""
    return f"?dataset={target.owner}/{target.name}&config=default&split=train&wait=30"


def targets_of(route: Route) -> list[Target]:
    """The models or datasets that the path of a route can name. An id names listed models only."""
    path = public_path(route)
    if path == "/assets/{address}":
        return []  # none of them has a picture; tests/preview/ has some that do
    if route.key == PREVIEW_KEY:
        return TARGETS[:3]
    return TARGETS if "{model}" in path else TARGETS[:3] if "{id}" in path or "{dataset}" in path else [NO_TARGET]


def ask(house: House, route: Route, auth: Auth, target: Target) -> int:
    named = {"owner": target.owner, "model": target.name, "id": f"{target.owner}/{target.name}"}
    named |= {"org": target.owner, "dataset": target.name, "workspace": target.owner}
    named |= {"file": FILES.get(route.path, "records"), "name": "tom"}
    named |= {"address": f"{target.owner}/{target.name}/--/default/train/0000.parquet"}
    path = re.sub(r"\{(\w+)\}", lambda found: named[found[1]], public_path(route))
    query = "?bulk=true" if route.when else QUERIES.get(f"{route.method} {route.path}", "")
    if route.key == PREVIEW_KEY:
        query = shown(target)
    if route.path == "/api/proof":
        query = f"?nonce={'0' * 32}"
    body = b"{}" if route.bodies else None
    return requests.request(route.method, house.server.url + path + query, auth=auth, data=body, timeout=60).status_code


def outcome(status: int) -> Expected:
    return status if status in (401, 403, 404) else MAY


@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.method} {route.path}{' ' + route.when.text if route.when else ''}"
)
def test_every_route_answers_every_caller_as_its_key_says(house: House, route: Route) -> None:
    assert route.key in RULES, "say in RULES what this key means"
    rule = RULES[route.key]
    found, expected = {}, {}
    for name, caller in CALLERS.items():
        for target in targets_of(route):
            case = f"{name} -> {target.owner}/{target.name}"
            found[case] = outcome(ask(house, route, house.auths[name], target))
            expected[case] = rule(caller, target)
    assert found == expected


def test_the_table_has_no_rule_that_no_route_needs() -> None:
    assert {route.key for route in ROUTES} == RULES.keys()
