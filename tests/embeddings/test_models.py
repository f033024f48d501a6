"""The lists of models in both shapes (embeddings.md 2.1, 2.3), and the answers to other methods on these paths (2)."""

import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients import curl
from tests.embeddings.asking import (
    BASE,
    BERT,
    DIMS,
    MINILM,
    MPNET,
    OPENAI,
    SIMPLE,
    WIDE,
    assert_openai_fault,
    assert_refused,
    has_weights,
    needs,
    post,
)
from tests.serving import ROOT, Server

SERVED = [name for name in (MINILM, BASE) if has_weights(name)] + [BERT, MPNET, WIDE]
STAMP = re.compile(r"^\d{4}-\d\d-\d\d @ \d\d:\d\d:\d\d$")


def get(server: Server, path: str, **options: Any) -> requests.Response:
    return requests.get(server.url + path, timeout=30, **options)


def published_at(server: Server, title: str) -> int:
    root = ROOT / "models" if title.startswith("sluice/") else server.data_dir / "models"
    return int((root / title / "1" / "model.onnx").stat().st_mtime)


# GET /models


def test_the_models_come_with_their_dims_in_the_order_of_the_lists(server: Server) -> None:
    """Acceptance 1 and 22."""
    answer = get(server, "/models")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert list(answer.json()) == ["data", "generated", "id"]
    assert list(answer.json()["data"]) == ["models"]
    models = answer.json()["data"]["models"]
    assert list(models) == SERVED
    assert models == {name: {"dim": DIMS[name]} for name in SERVED}


@needs(MINILM)
@needs(BASE)
def test_the_shipped_models_have_384_and_768_values(server: Server) -> None:
    """Acceptance 1."""
    models = get(server, "/models").json()["data"]["models"]
    assert {name: models[name] for name in (MINILM, BASE)} == {MINILM: {"dim": 384}, BASE: {"dim": 768}}


def test_an_answer_is_stamped_with_local_time_and_a_new_uuid(server: Server) -> None:
    """Acceptance 1."""
    one, other = get(server, "/models").json(), get(server, "/models").json()
    assert STAMP.match(one["generated"])
    assert abs(time.mktime(time.strptime(one["generated"], "%Y-%m-%d @ %H:%M:%S")) - time.time()) < 60
    assert one["id"] != other["id"]
    assert all(uuid.UUID(answer["id"]).version == 4 and str(uuid.UUID(answer["id"])) == answer["id"] for answer in (one, other))


def test_the_seeds_own_calls_list_the_models(server: Server) -> None:
    by_requests = get(server, "/models", headers={"Content-Type": "application/json"})
    by_curl = curl(f"{server.url}/models", "-X", "GET", "-H", "accept: application/json")
    assert by_requests.status_code == by_curl.status == 200
    assert b'"models":' in by_curl.body


@pytest.mark.parametrize("path", ["/models", "/models/", "/v1/models", "/v1/models/", f"/v1/models/{BERT}", "/v1/models/nowhere"])
def test_head_equals_get_without_the_body(server: Server, path: str) -> None:
    got, headed = (requests.request(method, server.url + path, timeout=30) for method in ("GET", "HEAD"))
    assert headed.status_code == got.status_code
    assert headed.content == b""
    changing = {"Date": "", "x-request-id": ""}
    assert {**headed.headers, **changing} == {**got.headers, **changing}


def test_listing_loads_nothing(server: Server) -> None:
    """3.1: the widest model is listed, but no replica has opened it."""
    loads = f'sluice_model_loads_total{{model="admin/{WIDE}",outcome="loaded"}}'
    before = server.metric(loads)
    assert WIDE in get(server, "/models").json()["data"]["models"]
    assert get(server, f"/v1/models/{WIDE}").status_code == 200
    assert server.metric(loads) == before


# /v1/models


def test_the_same_models_are_objects_in_the_shape_of_openai(server: Server) -> None:
    answer = get(server, "/v1/models")
    assert (answer.status_code, list(answer.json()), answer.json()["object"]) == (200, ["object", "data"], "list")
    models = answer.json()["data"]
    assert [model["id"] for model in models] == SERVED
    for model in models:
        assert list(model) == ["id", "object", "created", "owned_by"]
        assert model["object"] == "model"
        owner = "sluice" if model["id"] in (MINILM, BASE) else "admin"
        assert model["owned_by"] == owner
        assert model["created"] == published_at(server, f"{owner}/{model['id']}")


@pytest.mark.parametrize(
    "name",
    [
        BERT,
        f"admin/{BERT}",
        f"admin%2F{BERT}",
        f"admin%2f{MPNET}",
        f"sentence-transformers/{BERT}",
        f"sentence-transformers%2F{MPNET}",
        pytest.param(MINILM, marks=needs(MINILM)),
        pytest.param(f"sluice/{MINILM}", marks=needs(MINILM)),
        pytest.param(f"sentence-transformers/{MINILM}", marks=needs(MINILM)),
        pytest.param(f"sentence-transformers%2F{MINILM}", marks=needs(MINILM)),
    ],
)
@pytest.mark.parametrize("end", ["", "/"])
def test_one_model_is_shown_by_any_of_its_names(server: Server, name: str, end: str) -> None:
    answer = get(server, f"/v1/models/{name}{end}")
    assert answer.status_code == 200
    assert list(answer.json()) == ["id", "object", "created", "owned_by"]
    listed = {model["id"]: model for model in get(server, "/v1/models").json()["data"]}
    plain = re.split("/|%2F", name, flags=re.IGNORECASE)[-1]
    assert {**answer.json(), "id": plain} == listed[plain]


@pytest.mark.parametrize(
    "name",
    [
        "nowhere",
        "sluice/nowhere",
        f"sentence-transformers/admin/{BERT}",
        f"eva/{BERT}",
        BERT.upper(),
        f"{BERT}/1",
        "iris",
        "sluice/iris",
        "%FF",
        "%00",
        "%ED%A0%80",
        "..%2F..%2Fetc",
        "é" * 300,
    ],
)
def test_an_unknown_model_is_404_whatever_it_is_called(server: Server, name: str) -> None:
    """A model with another task does not exist here."""
    answer = get(server, f"/v1/models/{name}")
    message = assert_openai_fault(answer, "model", "model_not_found", 404)
    assert message.startswith("The model `")
    assert message.endswith("` does not exist or you do not have access to it.")


# Paths and methods


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/models", "GET, HEAD"),
        (SIMPLE, "POST"),
        ("/v1/models", "GET, HEAD"),
        (f"/v1/models/{BERT}", "GET, HEAD"),
        ("/v1/models/a/b", "GET, HEAD"),
        (OPENAI, "POST"),
    ],
)
@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_405_with_allow(server: Server, method: str, path: str, allow: str, end: str) -> None:
    answer = requests.request(method, server.url + path + end, data=b"{}" if method == "POST" else None, timeout=30)
    if method in allow:
        assert answer.status_code != 405
        return
    assert answer.headers["Allow"] == allow
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (405, b"")
    else:
        assert_refused(path, answer, 405)


@pytest.mark.parametrize("path", ["/models/x", f"/models/{BERT}", "/embeddings/x", "/embeddings/a/b", "/v1/embeddings/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_below_that_does_not_exist_is_404_in_the_shape_of_the_surface(server: Server, method: str, path: str) -> None:
    assert_refused(path, requests.request(method, server.url + path, timeout=30), 404)


@pytest.mark.parametrize("path", ["/embeddingsx", "/Models", "/V1/models", "/Embeddings"])
def test_a_path_beside_the_surface_is_404_in_the_general_shape(server: Server, path: str) -> None:
    answer = post(server, path, b"{}", auth=server.auth)
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize("path", ["/v1", "/v1/chat/completions", "/v1/modelsx"])
def test_what_else_is_below_v1_is_404_in_the_shape_of_projects(server: Server, path: str) -> None:
    answer = post(server, path, b"{}", auth=server.auth)
    assert (answer.status_code, answer.json()["Error"]["Code"]) == (404, "not_found")


def test_every_answer_in_the_shape_of_openai_has_a_request_id_of_its_own(server: Server) -> None:
    answers = [
        get(server, "/v1/models"),
        get(server, f"/v1/models/{BERT}"),
        get(server, "/v1/models/no"),
        post(server, OPENAI, b"{}"),
    ]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_the_lists_name_what_is_written_down(server: Server) -> None:
    """Acceptance 22: the list of the data directory follows the shipped list. Comments, blank lines and repetitions are ignored."""
    shipped = (ROOT / "models" / "models.txt").read_text().splitlines()
    assert [line for line in shipped if line and not line.startswith("#")] == [MINILM, BASE]
    assert SERVED[-3:] == [BERT, MPNET, WIDE]


def test_a_listed_name_without_a_model_is_left_out_with_one_warning(server: Server) -> None:
    """Acceptance 22 and 3.1: the warning says how to get the model."""
    warnings = [line for line in server.log.splitlines() if "nowhere" in line]
    assert len(warnings) == 1
    assert "WARNING" in warnings[0]
    assert "model import" in warnings[0]


def test_a_shipped_model_without_weights_is_left_out_without_a_word(server: Server) -> None:
    """A warning at every start for what nobody has fetched would teach people to read over warnings."""
    assert [line for line in server.log.splitlines() if "left out" in line and (MINILM in line or BASE in line)] == []


def test_names_of_the_files_are_not_shown(server: Server) -> None:
    for path in ("/models", "/v1/models", "/v1/models/nowhere"):
        assert str(Path(server.data_dir)) not in get(server, path).text
