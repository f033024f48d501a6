"""Who may ask what: every route, asked by every kind of caller, about every kind of model, dataset and team.

What a route must answer follows from its documented `key` alone, by the table RULES. A route whose key is not in the table fails.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import requests

from engine.roles import Role
from handlers.accounts import ADMINS_KEY, FULL_KEY
from handlers.datasets.admission import READER, WRITER
from handlers.embeddings.admission import KEY as WHILE_OPEN
from handlers.http.models import CHANGE_KEY, USE_KEY
from handlers.http.routes import Route
from handlers.openapi import public_path
from handlers.preview.admission import KEY as PREVIEW_KEY
from handlers.preview.admission import LIST_KEY
from handlers.preview.queue import HOOK_KEY
from handlers.projects import BASES
from handlers.projects.admission import key_of, key_of_maker
from handlers.projects.teams import MEMBER_KEY
from server.app import ROUTES
from tests.described import fault
from tests.embeddings.small_models import SmallModels
from tests.projects.people import Auth, ask_as, new_team, new_token, put_project, set_role
from tests.publishing.asking import read_only, user
from tests.serving import Server, serving


@dataclass(frozen=True, slots=True)
class Caller:
    """user is None without credentials; kind is `none`, `wrong`, `read_only`, `full` or `admin`.

    role       in the team TEAM
    has_token  what is sent is a token
    """

    user: str | None
    kind: str
    role: Role | None = None
    has_token: bool = False

    def role_in(self, owner: str) -> int:
        """The role, or 0 for an outsider."""
        if self.kind == "admin" or self.user == owner:
            return Role.ADMIN
        return (self.role or 0) if owner == TEAM else 0

    def owns(self, target: "Target") -> bool:
        return self.role_in(target.owner) >= Role.MEMBER


@dataclass(frozen=True, slots=True)
class Target:
    """A model, or a dataset of the same name, as the people who ask see it."""

    owner: str
    name: str
    is_shared: bool


TEAM, PROJECT = "acme", "demo"
CALLERS = {
    "nobody": Caller(None, "none"),
    "eva with a wrong key": Caller("eva", "wrong"),
    "eva, read-only": Caller("eva", "read_only"),
    "eva": Caller("eva", "full"),
    "tom, read-only": Caller("tom", "read_only"),
    "tom": Caller("tom", "full"),
    "admin, read-only": Caller("admin", "read_only"),
    "admin": Caller("admin", "admin"),
    "eva's token": Caller("eva", "full", has_token=True),
    "admin's token": Caller("admin", "admin", has_token=True),
}
MEMBERS = {role.word: Caller(f"the-{role.word}", "full", role) for role in Role}
MEMBERS["Manager, read-only"] = Caller("the-Manager", "read_only", Role.MANAGER)
MEMBERS["Manager's token"] = Caller("the-Manager", "full", Role.MANAGER, has_token=True)
TARGETS = [Target("eva", "hidden", False), Target("eva", "open", True), Target("tom", "own", False), Target("acme", "plan", False)]
SHIPPED = Target("sluice", "iris", True)
NO_TARGET = Target("nobody", "nothing", True)
NO_TEAM = Target("none", "nothing", False)
MAY = "may"
Expected = int | str


Rule = Callable[[Caller, Target], Expected]


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


def no_token(rule: Rule) -> Rule:
    """What is made outlives a token."""

    def with_key(caller: Caller, target: Target) -> Expected:
        allowed = rule(caller, target)
        return 403 if allowed == MAY and caller.has_token else allowed

    return with_key


def changes_with(role: Role) -> Rule:
    """Changes a model or a dataset, which in a team needs this role."""

    def changes(caller: Caller, target: Target) -> Expected:
        if caller.kind in ("none", "wrong", "read_only"):
            return full_key(caller, target)
        if caller.role_in(target.owner) >= role:
            return MAY
        is_seen = target.is_shared or caller.role_in(target.owner) >= (Role.MEMBER if role > Role.DATA_MANAGER else Role.OBSERVER)
        return 403 if is_seen else 404

    return changes


def needs(role: Role) -> Rule:
    """Asks about a team, or what its projects have."""

    def in_team(caller: Caller, target: Target) -> Expected:
        if caller.kind in ("none", "wrong", "read_only"):
            return full_key(caller, target)
        if target is NO_TEAM or not caller.role_in(target.owner):
            return 404
        return MAY if caller.role_in(target.owner) >= role else 403

    return in_team


def while_open(caller: Caller, target: Target) -> Expected:
    """Under default settings the surface is open; what another user does not share is not there."""
    if caller.kind == "wrong":
        return 401
    return MAY if target.is_shared or caller.owns(target) else 404


def sees_dataset(caller: Caller, target: Target) -> Expected:
    """The same of datasets, which also Observers of a team see."""
    return 401 if caller.kind == "wrong" else reads_dataset(caller, target) if caller.user else while_open(caller, target)


def unless_wrong(caller: Caller, target: Target) -> Expected:
    """Under default settings everybody may ask, but nobody with a credential that is wrong."""
    return 401 if caller.kind == "wrong" else MAY


def reads_dataset(caller: Caller, target: Target) -> Expected:
    """A read-only key reads what its user reads."""
    if caller.kind in ("none", "wrong"):
        return 401
    return MAY if target.is_shared or caller.role_in(target.owner) else 404


# Files that paths with `{file}` have for everybody.
FILES = {"/docs/{file}": "start.js", "/static/{file}": "pages.js"}
ROLE_RULES: dict[str, Rule] = {key(role): needs(role) for role in Role for key in (key_of, key_of_maker)}
# What the documentation calls the key of a route -> what a caller gets for a target.
RULES: dict[str, Rule] = {
    "none": nobody_asked,
    "itself": any_key,
    "any": any_key,
    "full": full_key,
    "admin": admins_key,
    FULL_KEY: no_token(full_key),
    ADMINS_KEY: no_token(admins_key),
    USE_KEY: any_key,
    CHANGE_KEY: changes_with(Role.MODEL_DEVELOPER),
    WRITER: changes_with(Role.DATA_MANAGER),
    **ROLE_RULES,
    MEMBER_KEY: needs(Role.ADMIN),
    READER: reads_dataset,
    WHILE_OPEN: while_open,
    PREVIEW_KEY: sees_dataset,
    LIST_KEY: unless_wrong,
    HOOK_KEY: unless_wrong,
}
# A project that is deleted is gone for all who ask later, so these ask for one that is not there.
DELETED_PROJECTS = {("DELETE", base + "/projects/{team}/{project}") for base in BASES}
# Requests that a caller who may ask survives: they delete, publish and change nothing. All others send `{}`, or nothing.
QUERIES = {"DELETE /{owner}/models/{model}": "?version=1", "DELETE /api/datasets/{org}/{dataset}": "?version=none"}


@dataclass(frozen=True, slots=True)
class House:
    server: Server
    auths: dict[str, Auth]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A server with a private and a shared model of eva's, a private one of tom's, and one of a team, which has a project.

    All are embedding models, and listed. Each has a dataset of the same name beside it.
    """
    data_dir = tmp_path_factory.mktemp("rights") / "data"
    small = SmallModels(tmp_path_factory.mktemp("small"))
    for target in TARGETS:
        small.put(data_dir, f"{target.owner}/{target.name}", shared=target.is_shared)
    (data_dir / "models" / "models.txt").write_text("".join(f"{one.owner}/{one.name}\n" for one in TARGETS))
    (data_dir / "models").rename(data_dir / "later")  # an owner of models cannot be made a user
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        auths: dict[str, Auth] = {"nobody": None, "eva with a wrong key": ("eva", "0" * 32), "admin": server.auth}
        auths |= {name: user(server, name) for name in ("eva", "tom")}
        auths |= {f"{name}, read-only": read_only(server, auths[name]) for name in ("eva", "tom", "admin")}  # type: ignore[arg-type]
        auths |= {f"{name}'s token": new_token(server, auths[name]) for name in ("eva", "admin")}
        auths |= team_of_all_roles(server)
        (data_dir / "models").mkdir(exist_ok=True)
        for path in (data_dir / "later").iterdir():
            path.rename(data_dir / "models" / path.name)
        assert requests.post(f"{server.url}/api/models/reload", auth=server.auth, timeout=30).status_code == 200
        for target in TARGETS:
            url = f"{server.url}/api/datasets/{target.owner}/{target.name}"
            visibility = "public" if target.is_shared else "private"
            assert requests.put(url, data=b'{"n":1}', auth=server.auth, timeout=30).status_code == 201
            assert requests.patch(url, json={"visibility": visibility}, auth=server.auth, timeout=30).status_code == 200
            assert requests.get(server.url + "/rows" + shown(target), auth=server.auth, timeout=60).status_code == 200
        yield House(server, auths)


def team_of_all_roles(server: Server) -> dict[str, Auth]:
    """A team with a member of each role and a project; the credentials of its members."""
    auths: dict[str, Auth] = {role.word: user(server, f"the-{role.word}") for role in Role}
    new_team(server, TEAM, auths["Admin"])
    put_project(server, TEAM, PROJECT)
    for role in Role:
        set_role(server, TEAM, f"the-{role.word}", role)
    auths["Manager, read-only"] = read_only(server, auths["Manager"])  # type: ignore[arg-type]
    auths["Manager's token"] = new_token(server, auths["Manager"])
    return auths


def shown(target: Target) -> str:
    """The query that names the split of a target's dataset, and waits until it is read."""
    return f"?dataset={target.owner}/{target.name}&config=default&split=train&wait=30"


def targets_of(route: Route) -> list[Target]:
    """The models, datasets or teams that the path of a route can name. An id names listed models only."""
    path = public_path(route)
    if path == "/assets/{address}":
        return []  # none of them has a picture; tests/preview/ has some that do
    if "{team}" in path:
        return [TARGETS[3], NO_TEAM]
    if route.key == PREVIEW_KEY or "{id}" in path or "{dataset}" in path:
        return TARGETS
    return [*TARGETS, SHIPPED] if "{model}" in path else [NO_TARGET]


def callers_for(target: Target) -> dict[str, Caller]:
    """Members of the team say nothing new about what others have."""
    return CALLERS | MEMBERS if target.owner in (TEAM, NO_TEAM.owner) else CALLERS


def ask(house: House, route: Route, auth: Auth, target: Target) -> Expected:
    named = {"owner": target.owner, "model": target.name, "id": f"{target.owner}/{target.name}"}
    named |= {"org": target.owner, "dataset": target.name, "title": target.name, "workspace": target.owner}
    named |= {"file": FILES.get(route.path, "records"), "name": "tom"}
    named |= {"team": target.owner, "project": PROJECT, "user": "nobody", "iid": "999", "graph": "999"}
    if (route.method, route.path) in DELETED_PROJECTS:
        named["project"] = "none"
    named |= {"version": "1"}
    named |= {"address": f"{target.owner}/{target.name}/--/default/train/0000.parquet"}
    path = re.sub(r"\{(\w+)\}", lambda found: named[found[1]], public_path(route))
    query = "?bulk=true" if route.when else QUERIES.get(f"{route.method} {route.path}", "")
    if route.key == PREVIEW_KEY:
        query = shown(target)
    if route.path == "/api/proof":
        query = f"?nonce={'0' * 32}"
    body = b"{}" if route.bodies else None
    answer = ask_as(auth, route.method, house.server.url + path + query, data=body)
    if not route.is_alias:  # documents leave those out
        assert fault(answer, route.method, public_path(route)) is None
    return outcome(answer)


def outcome(answer: requests.Response) -> Expected:
    """MAY, or the status of a refusal that is about the caller. What is missing below a team is told to its members only."""
    if answer.status_code == 404 and answer.text.startswith('{"Error":'):
        return 404 if answer.json()["Error"]["Code"] in ("unknown_team", "not_found") else MAY
    return answer.status_code if answer.status_code in (401, 403, 404) else MAY


@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.method} {route.path}{' ' + route.when.text if route.when else ''}"
)
def test_every_route_answers_every_caller_as_its_key_says(house: House, route: Route) -> None:
    assert route.key in RULES, "say in RULES what this key means"
    rule = RULES[route.key]
    found, expected = {}, {}
    for target in targets_of(route):
        for name, caller in callers_for(target).items():
            case = f"{name} -> {target.owner}/{target.name}"
            found[case] = ask(house, route, house.auths[name], target)
            expected[case] = rule(caller, target)
    assert found == expected


def test_the_table_has_no_rule_that_no_route_needs() -> None:
    assert {route.key for route in ROUTES} | ROLE_RULES.keys() == RULES.keys()
