"""Every call of the surface, once: the role that it needs, and a request that this role gets an answer to.

Written from the documented table of roles, not from the code. Keys are as in the route table, with `{}` for what varies in a path.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import requests

from handlers.http.routes import Route
from handlers.openapi import public_path
from handlers.projects import ROUTES
from tests.engine.tasks.projects import sets
from tests.projects.asking import BASES, SWE, Client, in_days
from tests.projects.house import GUEST, PROJECT, TEAM, House

P = f"/projects/{TEAM}/{PROJECT}"
EXTRA = b"Country,Date,Name,Value\nSWE,2018-01-07,income,1\n"


@dataclass(frozen=True)
class Call:
    """A request below a base, without its method."""

    path: str
    body: Any = None
    params: dict[str, str] = field(default_factory=dict)
    file: bytes | None = None

    def send(self, client: Client, method: str) -> requests.Response:
        files = {"file": ("some.csv", self.file)} if self.file is not None else None
        return client.ask(method, self.path, json=self.body, params=self.params, files=files)


class Row(NamedTuple):
    """role is the least that is needed, None where no team is concerned. `call` gets the house and the name of who will ask."""

    role: str | None
    call: Callable[[House, str], Call]


def operation(route: Route) -> str:
    """The key of a route."""
    path = re.sub(r"\{\w+\}", "{}", public_path(route))
    base = next(base for base in BASES if path.startswith(base + "/"))
    return f"{route.method} {path.removeprefix(base)}"


def operations(base: str, routes: Iterable[Route] = ROUTES) -> list[str]:
    """The keys of all routes below a base."""
    return [operation(route) for route in routes if public_path(route).startswith(base + "/") and "/docs" not in public_path(route)]


def _just(path: str, body: Any = None, **params: str) -> Callable[[House, str], Call]:
    return lambda house, name: Call(path, body, params)


def _of(path: Callable[[House], str], body: Any = None, **params: str) -> Callable[[House, str], Call]:
    """A path with the ids of objects that are there."""
    return lambda house, name: Call(P + path(house), body, params)


def _spare(kind: str, rest: str = "") -> Callable[[House, str], Call]:
    return lambda house, name: Call(f"{P}/{kind}/{house.spare(kind)}{rest}")


def _waiting(kind: str, rest: str) -> Callable[[House, str], Call]:
    return lambda house, name: Call(f"{P}/{kind}/{house.waiting(kind)}{rest}")


def build_body(house: House) -> dict[str, Any]:
    dates = house.full.dates
    detail = {"dataset_id": house.full.dataset, "train_dates": dates[:40], "eval_dates": dates[40:], "activate": False}
    graph = sets.star(sets.node("tv", "media"), sets.TREND)
    param = {"epochs": 0, "learning_rate": 0.005, "samples": 8, "inference": "map", "seed": 0}
    return {"model_param": param, "model_detail": detail | {"modelling_combination": SWE}, "graph_detail": {"graph": graph}}


def refit_body(house: House) -> dict[str, Any]:
    body = build_body(house)
    del body["graph_detail"], body["model_detail"]["modelling_combination"]
    return body


def attribution_body(house: House) -> dict[str, Any]:
    full = house.full
    numbers = {"model_id": full.model["IId"], "dataset_id": full.dataset, "samples": 20}
    return numbers | {"start_date": full.dates[0], "end_date": full.dates[9]}


def _model(rest: str = "", **params: str) -> Callable[[House, str], Call]:
    return _of(lambda house: f"/models/{house.full.model['IId']}{rest}", **params)


def _attribution(rest: str = "", **params: str) -> Callable[[House, str], Call]:
    return _of(lambda house: f"/attributions/{house.full.attribution['IId']}{rest}", **params)


def _set(rest: str = "") -> Callable[[House, str], Call]:
    return _of(lambda house: f"/attributionset/{house.full.attribution_set['IId']}{rest}")


def _dataset(rest: str = "", body: Any = None, **params: str) -> Callable[[House, str], Call]:
    return _of(lambda house: f"/datasets/{house.full.dataset}{rest}", body, **params)


TOKENS_AND_TEAMS = {
    "GET /user/access_tokens": Row(None, _just("/user/access_tokens")),
    "POST /user/access_tokens": Row(None, _just("/user/access_tokens", {"name": "ci", "expires_at": in_days(9)})),
    "DELETE /user/access_tokens/{}": Row(None, lambda house, name: Call(f"/user/access_tokens/{house.new_token(name)}")),
    "POST /user/access_tokens/{}/revoke": Row(
        None, lambda house, name: Call(f"/user/access_tokens/{house.new_token(name)}/revoke")
    ),
    "GET /team/teams": Row(None, _just("/team/teams")),
    "POST /team/teams": Row(None, lambda house, name: Call("/team/teams", {"id": house.new_name("own"), "name": "Own"})),
    "GET /team/teams/{}": Row("Observer", _just(f"/team/teams/{TEAM}")),
    "PATCH /team/teams/{}": Row("Admin", _just(f"/team/teams/{TEAM}", {"name": "Acme"})),
    "DELETE /team/teams/{}": Row("Admin", lambda house, name: Call(f"/team/teams/{house.new_team(name, house.role_of(name))}")),
    "GET /team/teams/{}/members": Row("Observer", _just(f"/team/teams/{TEAM}/members")),
    "POST /team/teams/{}/members": Row("Admin", _just(f"/team/teams/{TEAM}/members", {"user": GUEST, "role": "Observer"})),
    "PATCH /team/teams/{}/members/{}": Row(
        "Admin", lambda house, name: Call(f"/team/teams/{TEAM}/members/{house.welcome_guest()}", {"role": "Member"})
    ),
    "DELETE /team/teams/{}/members/{}": Row(
        "Admin", lambda house, name: Call(f"/team/teams/{TEAM}/members/{house.welcome_guest()}")
    ),
}
PROJECTS = {
    "GET /projects/{}": Row("Observer", _just(f"/projects/{TEAM}")),
    "POST /projects/{}": Row("Admin", lambda house, name: Call(f"/projects/{TEAM}", {"id": house.new_name("made"), "name": "X"})),
    "GET /projects/{}/{}": Row("Observer", _just(P)),
    "PATCH /projects/{}/{}": Row("Manager", _just(P, {"name": "Demo"})),
    "DELETE /projects/{}/{}": Row("Admin", lambda house, name: Call(f"/projects/{TEAM}/{house.new_project()}")),
}
DATA = {
    "GET /projects/{}/{}/datauploads": Row("Observer", _just(f"{P}/datauploads", limit="3")),
    "POST /projects/{}/{}/datauploads": Row(
        "DataManager", lambda h, n: Call(f"{P}/datauploads", None, {"dataset_name": "Extra"}, EXTRA)
    ),
    "GET /projects/{}/{}/datauploads/{}": Row("Observer", _of(lambda house: f"/datauploads/{house.upload}")),
    "DELETE /projects/{}/{}/datauploads/{}": Row("DataManager", _spare("datauploads")),
    "POST /projects/{}/{}/datauploads/{}/cancel": Row("DataManager", _waiting("datauploads", "/cancel")),
    "GET /projects/{}/{}/datasets": Row("Observer", _just(f"{P}/datasets", limit="3")),
    "POST /projects/{}/{}/datasets": Row("DataManager", lambda house, name: Call(f"{P}/datasets", {"upload_ids": [house.upload]})),
    "GET /projects/{}/{}/datasets/active": Row("Observer", _just(f"{P}/datasets/active")),
    "GET /projects/{}/{}/datasets/{}": Row("Observer", _dataset()),
    "DELETE /projects/{}/{}/datasets/{}": Row("DataManager", _spare("datasets")),
    "POST /projects/{}/{}/datasets/{}/cancel": Row("DataManager", _waiting("datasets", "/cancel")),
    "POST /projects/{}/{}/datasets/{}/dates": Row("Observer", _dataset("/dates", [SWE], dataset_name="Sales")),
    "POST /projects/{}/{}/datasets/{}/activate": Row("Manager", _dataset("/activate")),
    "PATCH /projects/{}/{}/datasets/{}/activate": Row("Manager", _dataset("/activate")),
}
GRAPHS = {
    "GET /projects/{}/{}/build/graphs": Row("Observer", _just(f"{P}/build/graphs", limit="3")),
    "POST /projects/{}/{}/build/graphs": Row("ModelDeveloper", _just(f"{P}/build/graphs", sets.star(sets.TREND))),
    "GET /projects/{}/{}/build/graphs/default": Row(
        "Observer", lambda house, name: Call(f"{P}/build/graphs/default", None, {"dataset_id": str(house.full.dataset), **SWE})
    ),
    "GET /projects/{}/{}/build/graphs/{}": Row(
        "Observer", _of(lambda house: f"/build/graphs/{house.full.model['GraphInstance']['Graph']['Id']}")
    ),
    "DELETE /projects/{}/{}/build/graphs/{}": Row("ModelDeveloper", _of(lambda house: f"/build/graphs/{house.saved_graph()}")),
    "GET /graph_instances/{}/{}": Row(
        "Observer", lambda house, name: Call(f"/graph_instances/{TEAM}/{house.full.model['GraphInstance']['Id']}")
    ),
}
MODELS = {
    "POST /projects/{}/{}/build/model": Row("ModelDeveloper", lambda house, name: Call(f"{P}/build/model", build_body(house))),
    "GET /projects/{}/{}/models": Row("Observer", _just(f"{P}/models", limit="3")),
    "GET /projects/{}/{}/models/active": Row("Observer", _just(f"{P}/models/active")),
    "GET /projects/{}/{}/models/{}": Row("Observer", _model()),
    "GET /projects/{}/{}/models/{}/response": Row("Observer", _model("/response", node="media.tv")),
    "GET /projects/{}/{}/models/{}/plot": Row("Observer", _model("/plot", kind="fit")),
    "DELETE /projects/{}/{}/models/{}": Row("ModelDeveloper", _spare("models")),
    "POST /projects/{}/{}/models/{}/cancel": Row("ModelDeveloper", _waiting("models", "/cancel")),
    "POST /projects/{}/{}/models/{}/activate": Row("Manager", _model("/activate")),
    "PATCH /projects/{}/{}/models/{}/activate": Row("Manager", _model("/activate")),
    "POST /projects/{}/{}/models/{}/refit": Row(
        "ModelDeveloper", lambda house, name: Call(f"{P}/models/{house.full.model['IId']}/refit", refit_body(house))
    ),
}
ATTRIBUTIONS = {
    "POST /projects/{}/{}/attributions": Row(
        "ModelDeveloper", lambda house, name: Call(f"{P}/attributions", attribution_body(house))
    ),
    "GET /projects/{}/{}/attributions": Row("Observer", _just(f"{P}/attributions", limit="3")),
    "GET /projects/{}/{}/attributions/{}": Row("Observer", _attribution()),
    "GET /projects/{}/{}/attributions/{}/dates": Row("Observer", _attribution("/dates", node="media.tv", format="json")),
    "GET /projects/{}/{}/attributions/{}/plot": Row("Observer", _attribution("/plot", kind="waterfall")),
    "DELETE /projects/{}/{}/attributions/{}": Row("ModelDeveloper", _spare("attributions")),
    "POST /projects/{}/{}/attributions/{}/cancel": Row("ModelDeveloper", _waiting("attributions", "/cancel")),
    "POST /projects/{}/{}/attributionset_align_dates": Row(
        "ModelDeveloper",
        lambda house, name: Call(
            f"{P}/attributionset_align_dates", {"attributionjob_ids": [house.full.attribution["IId"]], "active": False}
        ),
    ),
    "GET /projects/{}/{}/attributionset": Row("Observer", _just(f"{P}/attributionset", limit="3")),
    "GET /projects/{}/{}/attributionset/active": Row("Observer", _just(f"{P}/attributionset/active")),
    "GET /projects/{}/{}/attributionset/{}": Row("Observer", _set()),
    "DELETE /projects/{}/{}/attributionset/{}": Row("ModelDeveloper", _spare("attributionset")),
    "POST /projects/{}/{}/attributionset/{}/cancel": Row("ModelDeveloper", _waiting("attributionset", "/cancel")),
    "POST /projects/{}/{}/attributionset/{}/activate": Row("Manager", _set("/activate")),
    "PATCH /projects/{}/{}/attributionset/{}/activate": Row("Manager", _set("/activate")),
}
ROWS: dict[str, Row] = TOKENS_AND_TEAMS | PROJECTS | DATA | GRAPHS | MODELS | ATTRIBUTIONS
