"""A team with a member of each role on a server where no job is ever begun, so that each test finds what it needs.

Knows which objects there are. Does not know what each role may do.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine.tasks.projects import sets
from tests.projects.asking import Auth, Client, in_days, made
from tests.projects.files import Sheet
from tests.publishing.asking import read_only, user
from tests.serving import Server, serving

ROLES = ("Observer", "Member", "DataManager", "ModelDeveloper", "Manager", "Admin")
TEAM, PROJECT = "acme", "demo"
# Somebody of another team, somebody who is Observer of this one now and then, and somebody with a read-only key.
OUTSIDER, GUEST, READER = "outsider", "guest", "reader"


@dataclass(frozen=True)
class Full:
    """A project with a dataset, a MAP model of all its dates, an attribution of them by 400 draws, and a set of that; all active.

    Tests may read it; a test that changes anything takes a project of its own.
    """

    client: Client
    dataset: int
    dates: list[str]
    model: dict[str, Any]
    attribution: dict[str, Any]
    attribution_set: dict[str, Any]


def filled(client: Client, sheets: dict[str, Sheet], graph: Any = None) -> Full:
    dataset = client.dataset(sheets, activate=True)
    dates = client.dates(dataset)
    model = client.built(dataset, graph, detail={"activate": True})
    attribution = client.attributed(model["IId"], dataset, dates[0], dates[-1], samples=400)
    return Full(client, dataset, dates, model, attribution, client.aligned([attribution["IId"]], active=True))


@dataclass
class House:
    """auths has the credentials of users by name, but for the admin of the server; `named` gives the name of the user of a role."""

    full: Full
    upload: int
    auths: dict[str, Auth]
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def admin(self) -> Client:
        """The admin of the server, who is no member of the team."""
        return self.full.client

    def client(self, name: str) -> Client:
        return self.admin.but(auth=self.auths.get(name))

    def role_of(self, name: str) -> str | None:
        """The role of a user in the team."""
        return next((role for role in ROLES if named(role) == name), None)

    @property
    def query(self) -> str:
        """A query of the dataset of the project."""
        return f'select count(*) as n from "hub://{TEAM}/{PROJECT}-dataset-{self.full.dataset}/Sales/train"'

    # Things to change and to delete

    def spare(self, kind: str) -> int:
        """A new object of a kind that was cancelled before it began."""
        waiting = self.waiting(kind)
        made(self.admin.post(f"/{kind}/{waiting}/cancel"), 200)
        return waiting

    def waiting(self, kind: str) -> int:
        """A new object whose job waits for ever."""
        full = self.full
        if kind == "datauploads":
            answer = self.admin.upload("Extra", b"Country,Date,Name,Value\nSWE,2018-01-07,income,1\n")
        elif kind == "datasets":
            answer = self.admin.join([self.upload])
        elif kind == "models":
            answer = self.admin.build(full.dataset, sets.star(sets.TREND))
        elif kind == "attributions":
            answer = self.admin.attribution(full.model["IId"], full.dataset, full.dates[0], full.dates[1])
        else:
            answer = self.admin.post("/attributionset_align_dates", {"attributionjob_ids": [full.attribution["IId"]]})
        iid: int = made(answer)["IId"]
        return iid

    def saved_graph(self) -> int:
        """A new graph that somebody has saved."""
        graph: int = made(self.admin.post("/build/graphs", sets.star(sets.TREND)))["Id"]
        return graph

    def new_name(self, what: str) -> str:
        return f"{what}-{next(self.numbers)}"

    def new_team(self, name: str, role: str | None) -> str:
        """A team without projects, in which this user has this role."""
        team = self.new_name("team")
        made(self.admin.ask("POST", "/team/teams", json={"id": team, "name": "A team"}))
        if role:
            made(self.admin.ask("POST", f"/team/teams/{team}/members", json={"user": name, "role": role}))
        return team

    def new_project(self) -> str:
        project = self.new_name("project")
        made(self.admin.ask("POST", f"/projects/{TEAM}", json={"id": project, "name": "A project"}))
        return project

    def new_token(self, name: str) -> int:
        """The number of an access token of a user."""
        body = {"name": "some", "expires_at": in_days(30)}
        iid: int = made(self.client(name).ask("POST", "/user/access_tokens", json=body))["IId"]
        return iid

    def welcome_guest(self) -> str:
        answer = self.admin.ask("POST", f"/team/teams/{TEAM}/members", json={"user": GUEST, "role": "Observer"})
        made(answer, 201 if answer.status_code == 201 else 200)  # the guest may be there already
        return GUEST


@contextmanager
def housed(data_dir: Path, sheets: dict[str, Sheet]) -> Iterator[House]:
    """The jobs of the project, and those that prepare its dataset for queries, are done by a first server; on the second, which
    tests ask, all others wait."""
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as first:
        made(Client(first).ask("POST", "/team/teams", json={"id": TEAM, "name": "Acme"}))
        client = Client(first, PROJECT, TEAM)
        made(client.ask("POST", f"/projects/{TEAM}", json={"id": PROJECT, "name": "Demo"}))
        full = filled(client, sheets)
        made(client.query(House(full, 0, {}).query), 200)
        auths = _members(first)
        first.stop()
    settings = {"SLUICE_JOBS_REPLICAS": "0", "SLUICE_JOBS_PER_TEAM": "100000", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(data_dir, **settings) as running:
        admin = Client(running, PROJECT, TEAM)
        full = Full(admin, full.dataset, full.dates, full.model, full.attribution, full.attribution_set)
        yield House(full, made(admin.get("/datauploads", limit=1), 200)[0]["IId"], auths)
        assert "Traceback" not in running.log


def named(role: str) -> str:
    """The user who has this role in the team."""
    return f"the-{role.lower()}"


def _members(server: Server) -> dict[str, Auth]:
    """A user of each role, two of none, and a read-only key of the Admin."""
    auths: dict[str, Auth] = {name: user(server, name) for name in (OUTSIDER, GUEST, *map(named, ROLES))}
    for role in ROLES:
        body = {"user": named(role), "role": role}
        made(Client(server).ask("POST", f"/team/teams/{TEAM}/members", json=body))
    return auths | {READER: read_only(server, auths[named("Admin")])}  # type: ignore[arg-type]
