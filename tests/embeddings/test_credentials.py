"""Credentials: open and closed surfaces, keys of every kind, and private models (embeddings.md 2, acceptance 18, 19)."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tests.clients import Raw, basic
from tests.embeddings.asking import (
    BASE,
    BERT,
    OPENAI,
    SIMPLE,
    SURFACES,
    ask,
    assert_detail,
    assert_openai_fault,
    assert_refusal,
    assert_refused,
    assert_same,
    post,
    put_names,
    vectors,
)
from tests.embeddings.small_models import SmallModels
from tests.serving import ROOT, Server, serving

WRONG = "0" * 32
PATHS = [("GET", "/models"), ("POST", SIMPLE), ("GET", "/v1/models"), ("GET", f"/v1/models/{BERT}"), ("POST", OPENAI)]
BODY = json.dumps({"model": BERT, "input": "a"})


def request(server: Server, method: str, path: str, credential: str | None = None) -> requests.Response:
    headers = {} if credential is None else {"Authorization": credential}
    return requests.request(method, server.url + path, data=BODY if method == "POST" else None, headers=headers, timeout=30)


def read_only(server: Server, auth: tuple[str, str]) -> tuple[str, str]:
    made = requests.post(f"{server.url}/api/keys", json={"kind": "read_only"}, auth=auth, timeout=30)
    assert made.status_code == 201, made.text
    return auth[0], made.json()["key"]


# Open surfaces


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_an_open_surface_asks_for_nothing(server: Server, method: str, path: str) -> None:
    """Acceptance 18."""
    assert request(server, method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_key_is_accepted_as_basic_and_as_bearer(server: Server, method: str, path: str) -> None:
    for credential in (basic(server.auth), f"Bearer {server.key}", f"bearer  {server.key} ", f"BASIC {basic(server.auth)[6:]}"):
        assert request(server, method, path, credential).status_code == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "value", ["x", "sk-proj-abcdefghijklmnopqrstuvwxyz", "", " ", "0" * 31, "0" * 33, "g" * 32, "SLU_x", "not needed"]
)
def test_a_bearer_that_cannot_be_a_key_counts_as_none(server: Server, method: str, path: str, value: str) -> None:
    """Section 2: OpenAI's clients always send a bearer token."""
    assert request(server, method, path, f"Bearer {value}").status_code == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "credential",
    [
        f"Bearer {WRONG}",
        f"Bearer {'A' * 32}",
        "Bearer slu_",
        "Bearer slu_0123456789",
        basic(("admin", WRONG)),
        basic(("nobody", WRONG)),
        basic(("admin", "x")),
        basic(("", "")),
        "Basic",
        "Basic !!!",
        "Basic YWRtaW4=",
        "Basic /////w==",
        "Digest x",
        "x",
        "",
    ],
)
def test_a_wrong_credential_is_401_even_where_none_is_needed(server: Server, method: str, path: str, credential: str) -> None:
    """Acceptance 18."""
    answer = request(server, method, path, credential)
    assert_refused(path, answer, 401)
    if path.startswith("/v1"):
        assert answer.json()["error"]["code"] == "invalid_api_key"
    else:
        assert answer.json() == {"detail": "Unauthorized"}


def test_a_right_key_under_another_name_is_401(server: Server) -> None:
    for path in SURFACES:
        assert_refused(path, request(server, "POST", path, basic(("nobody", server.key))), 401)


def test_a_read_only_key_may_embed_with_what_everybody_may(server: Server) -> None:
    reader = read_only(server, server.auth)
    for path in SURFACES:
        assert ask(server, "a", path=path, auth=reader).status_code == 200


# Closed surfaces


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("closed") / "data"
    small.put(data_dir, f"admin/{BERT}")
    with serving(data_dir, SLUICE_ANONYMOUS="none", SLUICE_EMBEDDING_MODELS=BERT, SLUICE_SCORE_REPLICAS="1") as running:
        yield running


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_closed_surface_wants_a_key(closed: Server, method: str, path: str) -> None:
    """Acceptance 18: the refusal has the shape of its path."""
    none = request(closed, method, path)
    assert_refused(path, none, 401)
    if path.startswith("/v1"):
        assert none.json()["error"] == {**none.json()["error"], "param": None, "code": "invalid_api_key"}
    else:
        assert none.json() == {"detail": "Not authenticated"}
    for credential in ("Bearer x", "Bearer", f"Bearer {WRONG}", basic(("admin", "x"))):
        assert_refused(path, request(closed, method, path, credential), 401)
    for credential in (basic(closed.auth), f"Bearer {closed.key}"):
        assert request(closed, method, path, credential).status_code == 200


def test_an_unknown_path_or_method_of_a_closed_surface_asks_for_no_key(closed: Server) -> None:
    assert request(closed, "GET", "/embeddings/x").status_code == 404
    assert request(closed, "GET", OPENAI).status_code == 405


def test_opening_another_surface_does_not_open_this_one(tmp_path: Any, small: SmallModels) -> None:
    small.put(tmp_path / "data", f"admin/{BERT}")
    settings = {"SLUICE_ANONYMOUS": "streaming", "SLUICE_EMBEDDING_MODELS": BERT, "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as other:
        for method, path in PATHS:
            assert_refused(path, request(other, method, path), 401)
        assert requests.post(other.model(f"admin/{BERT}"), json={"text": "a"}, timeout=30).status_code == 200


# Expect


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize("end", ["", "/"])
def test_a_wrong_key_gets_its_401_in_place_of_100_continue(server: Server, path: str, end: str) -> None:
    with Raw(server) as client:
        client.ask("POST", path + end, auth=("admin", WRONG), Expect="100-continue", Content_Length="1000000")
        head = client.head()
        assert (head.status, head.headers["connection"]) == (401, "close")
        assert_refusal(path, 401, json.loads(client.rest()), head.headers)


# Private models


@dataclass(frozen=True, slots=True)
class Household:
    """A server with users and their models: eva's model `secret` is private, her model `open` is not; both are listed."""

    server: Server
    eva: tuple[str, str]
    bob: tuple[str, str]


@pytest.fixture(scope="module")
def household(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[Household]:
    data_dir = tmp_path_factory.mktemp("household") / "data"
    small.put(data_dir, f"admin/{BERT}")
    put_names(data_dir, BERT)
    aliases = "text-embedding-3-small=eva/secret,ours=eva/open"
    with serving(data_dir, SLUICE_MODEL_ALIASES=aliases, SLUICE_SCORE_REPLICAS="1") as server:
        users = {}
        for name in ("eva", "bob"):
            made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
            users[name] = (name, made.json()["key"])
        small.put(data_dir, "eva/secret", pooling="cls", shared=False)
        small.put(data_dir, "eva/open", pooling="max")
        small.put(data_dir, "bob/twin")
        small.put(data_dir, "eva/twin", "mpnet", shared=False)
        put_names(data_dir, BERT, "secret", "open", "bob/twin", "eva/twin")
        assert requests.post(f"{server.url}/api/models/reload", auth=server.auth, timeout=30).status_code == 200
        yield Household(server, users["eva"], users["bob"])


def names(server: Server, auth: Any = None) -> list[str]:
    """The names in both listings, which must agree."""
    simple = list(requests.get(f"{server.url}/models", auth=auth, timeout=30).json()["data"]["models"])
    assert [model["id"] for model in requests.get(f"{server.url}/v1/models", auth=auth, timeout=30).json()["data"]] == simple
    return [name for name in simple if not name.startswith("all-")]


def test_a_private_model_is_listed_for_its_owner_and_the_admin(household: Household) -> None:
    """Acceptance 19."""
    everybody = [BERT, "eva/open", "bob/twin"]
    mine = [BERT, "eva/secret", "eva/open", "bob/twin", "eva/twin"]
    server = household.server
    assert names(server) == names(server, household.bob) == everybody
    assert names(server, household.eva) == names(server, server.auth) == mine


@pytest.mark.parametrize("name", ["eva/secret", "eva/twin"])
def test_a_private_model_answers_its_owner_and_exists_for_nobody_else(household: Household, name: str) -> None:
    """Acceptance 19."""
    server = household.server
    for auth in (household.eva, server.auth):
        assert_same(vectors(ask(server, "hello", name, auth=auth)), vectors(ask(server, "hello", name, path=OPENAI, auth=auth)))
        assert requests.get(f"{server.url}/v1/models/{name}", auth=auth, timeout=30).status_code == 200
    for auth in (None, household.bob, read_only(server, household.bob)):
        [fault] = assert_detail(ask(server, "hello", name, auth=auth), ("assertion_error", ["body", "model"]))
        assert fault["msg"] == f"Assertion failed, Model `{name}` has not been specified and is not available."
        message = assert_openai_fault(ask(server, "hello", name, path=OPENAI, auth=auth), "model", "model_not_found", 404)
        assert "does not exist" in message
        shown = requests.get(f"{server.url}/v1/models/{name}", auth=auth, timeout=30)
        unknown = requests.get(f"{server.url}/v1/models/nowhere", auth=auth, timeout=30)
        assert shown.json() == json.loads(unknown.text.replace("nowhere", name))


def test_a_bearer_key_opens_its_owners_models(household: Household) -> None:
    with openai.OpenAI(base_url=household.server.url + "/v1", api_key=household.eva[1], max_retries=0) as client:
        assert len(client.embeddings.create(model="eva/secret", input="a").data) == 1
    with (
        openai.OpenAI(base_url=household.server.url + "/v1", api_key=household.bob[1], max_retries=0) as client,
        pytest.raises(openai.NotFoundError),
    ):
        client.embeddings.create(model="eva/secret", input="a")


def test_the_owners_read_only_key_opens_the_private_model(household: Household) -> None:
    assert ask(household.server, "a", "eva/secret", auth=read_only(household.server, household.eva)).status_code == 200


def test_an_alias_of_a_private_model_is_one_for_its_owner_only(household: Household) -> None:
    server = household.server
    assert ask(server, "a", "ours", path=OPENAI).json()["model"] == "ours"
    assert ask(server, "a", "text-embedding-3-small", path=OPENAI, auth=household.eva).status_code == 200
    answer = ask(server, "a", "text-embedding-3-small", path=OPENAI, auth=household.bob)
    assert_openai_fault(answer, "model", "model_not_found", 404)


def test_two_owners_may_have_models_of_one_name(household: Household) -> None:
    """3.1: a caller who sees both distinguishes them by `owner/name`; the bare name means neither."""
    server = household.server
    one, other = (vectors(ask(server, "hello", name, auth=household.eva)) for name in ("bob/twin", "eva/twin"))
    assert abs(one - other).max() > 0.01
    for name in ("twin", "sentence-transformers/twin", "open"):
        for auth in (None, household.bob, household.eva):
            assert ask(server, "a", name, path=OPENAI, auth=auth).status_code == 404


def test_a_users_model_does_not_answer_to_the_name_of_a_shipped_one_without_weights(tmp_path: Path, small: SmallModels) -> None:
    small.put(tmp_path / "data", f"mallory/{BASE}")
    put_names(tmp_path / "data", f"mallory/{BASE}")
    if (ROOT / "models" / "sluice" / BASE / "1").exists():
        pytest.skip("the shipped model has its weights here")
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        assert f"mallory/{BASE}" in requests.get(f"{server.url}/models", timeout=30).json()["data"]["models"]
        assert ask(server, "a", f"mallory/{BASE}", path=OPENAI).status_code == 200
        for name in (BASE, f"sentence-transformers/{BASE}"):
            assert ask(server, "a", name, path=OPENAI).status_code == 404
        assert ask(server, "a", BASE).status_code == 422


def test_the_private_model_is_not_on_the_bulk_path_either(household: Household) -> None:
    server = household.server
    for auth, status in ((household.eva, 200), (household.bob, 404)):
        answer = requests.post(server.model("eva/secret") + "?bulk=true", data=b'{"text":"a"}', auth=auth, timeout=30)
        assert answer.status_code == status


def test_sharing_a_model_shows_it_and_taking_it_back_hides_it(household: Household) -> None:
    server, url = household.server, f"{household.server.url}/api/models/eva/secret"
    for shared in (True, False):
        assert requests.patch(url, json={"shared": shared}, auth=household.eva, timeout=30).status_code == 200
        assert ("eva/secret" in names(server)) is shared
        assert ask(server, "a", "eva/secret", path=OPENAI).status_code == (200 if shared else 404)


# Keys stay out of the log


def test_no_key_and_no_text_is_ever_logged(server: Server) -> None:
    secret = base64.b64encode(b"a text that nobody should see").decode()
    for path in SURFACES:
        ask(server, secret, path=path, auth=server.auth)
        post(server, path, json.dumps({"model": secret, "input": [secret, 3]}).encode())
    assert secret not in server.log
    assert server.key not in server.log
