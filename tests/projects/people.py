"""Who works on projects: users, teams, roles and tokens, made through the front door."""

import itertools
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from engine.roles import Role
from tests.projects.asking import BASES
from tests.publishing.asking import user
from tests.serving import Server

# A name and a key, a token, or nothing.
Auth = tuple[str, str] | str | None
_NUMBERS = itertools.count(1)


def ask_as(auth: Auth, method: str, url: str, **more: Any) -> requests.Response:
    """A request with a key (Basic), with a token (Bearer), or with nothing. `more` is what requests takes."""
    headers = dict(more.pop("headers", {}))
    if isinstance(auth, str):
        headers["Authorization"] = f"Bearer {auth}"
    return requests.request(method, url, headers=headers, auth=None if isinstance(auth, str) else auth, timeout=60, **more)


def ask(server: Server, method: str, path: str, auth: Auth = None, *, base: str = BASES[1], **more: Any) -> requests.Response:
    """A request below a base, of the admin unless told."""
    return ask_as(auth or server.auth, method, server.url + base + path, **more)


def new_user(server: Server) -> tuple[str, str]:
    """A user whom nobody knows yet: name and full key."""
    return user(server, f"person{next(_NUMBERS)}")


def new_team(server: Server, team: str = "", auth: Auth = None) -> str:
    """A team whose Admin is the sender; its id."""
    team = team or f"team{next(_NUMBERS)}"
    made = ask(server, "POST", "/team/teams", auth, json={"id": team, "name": team.title()})
    assert made.status_code == 201, made.text
    return team


def set_role(server: Server, team: str, name: str, role: Role) -> None:
    """The admin of the server gives a user a role."""
    answer = ask(server, "POST", f"/team/teams/{team}/members", json={"user": name, "role": role.word})
    assert answer.status_code in (200, 201), answer.text


def new_member(server: Server, team: str, role: Role) -> tuple[str, str]:
    auth = new_user(server)
    set_role(server, team, auth[0], role)
    return auth


def new_token(server: Server, auth: Auth = None, *, seconds: float = 86_400, name: str = "test") -> str:
    """The value of a token that ends after this time."""
    made = ask(server, "POST", "/user/access_tokens", auth, json={"name": name, "expires_at": later(seconds)})
    assert made.status_code == 201, made.text
    value: str = made.json()["Token"]
    return value


def later(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def put_project(server: Server, team: str, project: str, *, is_removed: bool = False) -> None:
    """A project, written into the database as it lies there.

    is_removed  it is being removed
    """
    values = (team, project, project, later(0), is_removed)
    _write(server, "INSERT OR REPLACE INTO project (team, id, name, created_at, is_removed) VALUES (?, ?, ?, ?, ?)", *values)


def remove_project(server: Server, team: str, project: str) -> None:
    _write(server, "DELETE FROM project WHERE team = ? AND id = ?", team, project)


def _write(server: Server, statement: str, *values: object) -> None:
    database = sqlite3.connect(server.data_dir / "sluice.db", timeout=30)
    with closing(database), database:
        database.execute(statement, values)
