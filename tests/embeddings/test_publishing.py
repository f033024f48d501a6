"""Which models are served: lists, publishing, deleting, reloading, and models that have changed (embeddings.md 3.1)."""

import base64
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import requests

from tests.clients import Raw, until
from tests.embeddings.asking import (
    BERT,
    MINILM,
    MPNET,
    OPENAI,
    SIMPLE,
    SURFACES,
    ask,
    assert_detail,
    assert_openai_fault,
    assert_same,
    needs,
    put_names,
    vectors,
)
from tests.embeddings.small_models import CONFIG, GRAPH, TOKENIZER, SmallModels
from tests.publishing.asking import put
from tests.serving import ROOT, Server, serving

Auth = tuple[str, str]


@dataclass(frozen=True, slots=True)
class House:
    """A server whose models change, and a user."""

    server: Server
    small: SmallModels
    eva: Auth

    @property
    def list_file(self) -> Path:
        return self.server.data_dir / "models" / "models.txt"

    def publish(
        self, title: str, kind: str = "bert", pooling: str = "mean", *, auth: Auth | None = None, **changes: Any
    ) -> requests.Response:
        """Publish a small model by PUT, with its config and its tokenizer."""
        folder, config = self.small.files(kind, pooling)
        owner, name = title.split("/")
        parts = {"config": config | {"owner": owner, "name": name} | changes, "tokenizer": (folder / TOKENIZER).read_bytes()}
        return put(self.server, title, (folder / GRAPH).read_bytes(), auth=auth, **parts)

    def delete(self, title: str, auth: Auth | None = None) -> requests.Response:
        return requests.delete(self.server.model(title), auth=auth or self.server.auth, timeout=60)

    def reload(self) -> int:
        answer = requests.post(f"{self.server.url}/api/models/reload", auth=self.server.auth, timeout=60)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["models"]
        num_models: int = answer.json()["models"]
        return num_models

    def names(self, auth: Auth | None = None) -> list[str]:
        """The listed models without the shipped ones. Both lists must agree."""
        simple = list(requests.get(f"{self.server.url}/models", auth=auth, timeout=30).json()["data"]["models"])
        listed = requests.get(f"{self.server.url}/v1/models", auth=auth, timeout=30).json()["data"]
        assert [model["id"] for model in listed] == simple
        return [name for name in simple if not name.startswith("all-")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[House]:
    data_dir = tmp_path_factory.mktemp("house") / "data"
    small.put(data_dir, f"admin/{BERT}")
    put_names(data_dir, "# what the tests publish", BERT)
    with serving(data_dir) as server:
        made = requests.post(f"{server.url}/api/users", json={"name": "eva"}, auth=server.auth, timeout=30)
        yield House(server, small, ("eva", made.json()["key"]))


def vector(house: House, model: str, auth: Auth | None = None, text: str = "hello world") -> np.ndarray:
    """The vector, which must be the same in both shapes."""
    found = vectors(ask(house.server, text, model, auth=auth))
    assert_same(found, vectors(ask(house.server, text, model, path=OPENAI, auth=auth)))
    return found[0]


def assert_unknown(house: House, name: str, auth: Auth | None = None) -> None:
    assert name not in house.names(auth)
    assert_detail(ask(house.server, "a", name, auth=auth), ("assertion_error", ["body", "model"]))
    assert_openai_fault(ask(house.server, "a", name, path=OPENAI, auth=auth), "model", "model_not_found", 404)


# Publishing


def test_a_published_model_is_listed_last_and_served_and_a_deleted_one_is_not(house: House) -> None:
    before = house.names()
    assert house.publish("admin/fresh", "mpnet").status_code == 201
    assert house.names() == [*before, "fresh"]
    assert house.list_file.read_text() == "# what the tests publish\nsmall-bert\nfresh\n"
    models = requests.get(f"{house.server.url}/models", timeout=30).json()["data"]["models"]
    assert models["fresh"] == {"dim": 32}
    assert np.abs(vector(house, "fresh") - vector(house, BERT)).max() > 0.01
    assert house.delete("admin/fresh").status_code == 200
    assert_unknown(house, "fresh")
    assert house.list_file.read_text() == "# what the tests publish\nsmall-bert\n"


def test_a_published_model_gives_the_vectors_of_its_graph(house: House) -> None:
    house.publish("admin/twin")
    assert_same(vector(house, "twin"), vector(house, BERT))
    house.delete("admin/twin")


def test_the_same_files_again_are_no_new_line(house: House) -> None:
    assert house.publish("admin/again").status_code == 201
    assert house.publish("admin/again").status_code == 200
    assert house.publish("admin/again", pooling="cls").status_code == 201
    assert house.list_file.read_text().count("again") == 1
    assert house.names().count("again") == 1
    house.delete("admin/again")


def test_a_new_version_answers_at_once_and_the_old_one_when_it_is_active_again(house: House) -> None:
    house.publish("admin/turn")
    old = vector(house, "turn")
    assert house.publish("admin/turn", pooling="cls").json()["version"] == 2
    new = vector(house, "turn")
    assert np.abs(new - old).max() > 0.01
    changed = requests.patch(
        f"{house.server.url}/api/models/admin/turn", json={"active_version": 1}, auth=house.server.auth, timeout=60
    )
    assert changed.status_code == 200
    assert_same(vector(house, "turn"), old)
    house.delete("admin/turn")


def test_a_user_publishes_for_himself_unless_the_config_shares(house: House) -> None:
    assert house.publish("eva/mine", auth=house.eva, shared=False).status_code == 201
    assert_unknown(house, "mine")
    assert house.names(house.eva)[-1] == "eva/mine"
    assert len(vector(house, "eva/mine", house.eva)) == 32
    assert house.publish("eva/ours", auth=house.eva, shared=True).status_code == 201
    assert house.names()[-1] == "eva/ours"
    assert_unknown(house, "ours", house.eva)
    for name in ("mine", "ours"):
        assert house.delete(f"eva/{name}", house.eva).status_code == 200
        assert_unknown(house, f"eva/{name}", house.eva)


def test_a_name_that_another_owner_has_is_listed_in_full(house: House) -> None:
    """3.1: the model that was there first keeps the short name."""
    house.publish("admin/double", "mpnet")
    assert house.publish("eva/double", auth=house.eva).status_code == 201
    assert house.list_file.read_text().splitlines()[-2:] == ["double", "eva/double"]
    assert house.names()[-2:] == ["double", "eva/double"]
    assert_same(vector(house, "eva/double"), vector(house, BERT))
    assert np.abs(vector(house, "double") - vector(house, BERT)).max() > 0.01
    house.delete("admin/double")
    assert_same(vector(house, "eva/double"), vector(house, BERT))
    house.delete("eva/double")
    assert house.list_file.read_text() == "# what the tests publish\nsmall-bert\n"


def test_what_cannot_be_served_is_refused_and_not_listed(house: House) -> None:
    folder, config = house.small.files()
    graph, tokenizer = (folder / GRAPH).read_bytes(), (folder / TOKENIZER).read_bytes()
    config |= {"owner": "admin", "name": "bad"}
    fingerprint = base64.b64encode(np.ones(32, "<f4").tobytes()).decode()
    wrong: list[dict[str, Any]] = [
        {"config": config},
        {"config": config, "tokenizer": b"{}"},
        {"config": config | {"dim": 33}, "tokenizer": tokenizer},
        {"config": config | {"fingerprint": fingerprint}, "tokenizer": tokenizer},
        {"config": config | {"outputs": [{"output": "nothing", "as": "embedding"}]}, "tokenizer": tokenizer},
        {"config": {key: value for key, value in config.items() if key != "dim"}, "tokenizer": tokenizer},
        {"tokenizer": tokenizer},
    ]
    for parts in wrong:
        answer = put(house.server, "admin/bad", graph, **parts)
        assert (answer.status_code, answer.json().get("code")) == (422, "invalid_model"), answer.text
    assert_unknown(house, "bad")
    assert "bad" not in house.list_file.read_text()
    assert not (house.server.data_dir / "models" / "admin" / "bad" / "1").exists()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_graph_that_gives_token_vectors_is_pooled_as_its_config_says(house: House, pooling: str) -> None:
    """3.6: for graphs that other programs have exported."""
    folder, config = house.small.files()
    del config["fingerprint"]
    output = {"output": "last_hidden_state", "as": "embedding", "pooling": pooling, "normalise": True}
    parts = {
        "config": config | {"owner": "admin", "name": "foreign", "outputs": [output]},
        "tokenizer": (folder / TOKENIZER).read_bytes(),
    }
    house.publish("admin/whole", pooling=pooling)
    published = put(house.server, "admin/foreign", without_pooling(folder / GRAPH), **parts)
    assert published.status_code == 201, published.text
    texts = ["hello", "", "hello world " * 9, "a b c d e"]
    ours, theirs = (vectors(ask(house.server, texts, name)) for name in ("whole", "foreign"))
    assert_same(theirs, ours)
    for name in ("foreign", "whole"):
        house.delete(f"admin/{name}")


def without_pooling(path: Path) -> bytes:
    """The graph up to its last layer. Its output is token vectors, as other programs export them."""
    model = onnx.load(path)
    graph, helper = model.graph, onnx.helper
    [last] = [node.output[0] for node in graph.node if node.op_type == "LayerNormalization"][-1:]
    while graph.node[-1].output[0] != last:
        del graph.node[-1]
    width = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    graph.initializer.append(helper.make_tensor("width_axis", onnx.TensorProto.INT64, [1], [width]))
    graph.node.append(helper.make_node("Shape", ["input_ids"], ["text_axes"]))
    graph.node.append(helper.make_node("Concat", ["text_axes", "width_axis"], ["token_axes"], axis=0))
    graph.node.append(helper.make_node("Reshape", [last, "token_axes"], ["last_hidden_state"]))
    del graph.output[:]
    axes = ["batch", "sequence", width]
    graph.output.append(helper.make_tensor_value_info("last_hidden_state", onnx.TensorProto.FLOAT, axes))
    text: bytes = model.SerializeToString()
    return text


def test_deleting_a_model_waits_for_the_list_it_is_embedding(house: House) -> None:
    house.publish("admin/busy")
    counted = 'sluice_records_total{model="admin/busy",outcome="result"}'
    before = house.server.metric(counted)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask, house.server, ["b " * 34] * 2048, "busy")
        until(lambda: answer.done() or house.server.metric(counted) > before)
        assert house.delete("admin/busy").status_code == 200
        assert len(vectors(answer.result())) == 2048
    assert_unknown(house, "busy")


def test_the_list_survives_a_restart(tmp_path: Path, small: SmallModels) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        house = House(server, small, server.auth)
        assert house.publish("admin/kept").status_code == 201
        found = vector(house, "kept")
        server.stop()
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        house = House(server, small, server.auth)
        assert house.names() == ["kept"]
        assert_same(vector(house, "kept"), found)


# Reloading


def test_a_folder_that_was_put_in_place_is_served_after_a_reload(house: House) -> None:
    """3.6."""
    num_models = house.reload()
    house.small.put(house.server.data_dir, "admin/dropped", "mpnet")
    lines = house.list_file.read_text()
    house.list_file.write_text(lines + "dropped # by hand\n")
    assert_unknown(house, "dropped")
    assert house.reload() == num_models + 1
    assert house.names()[-1] == "dropped"
    found = vector(house, "dropped")
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    shutil.rmtree(house.server.data_dir / "models" / "admin" / "dropped")
    assert house.reload() == num_models
    assert_unknown(house, "dropped")
    house.list_file.write_text(lines)
    house.reload()


def test_a_changed_list_is_read_at_a_reload(house: House) -> None:
    lines = house.list_file.read_text()
    house.small.put(house.server.data_dir, "admin/third", "mpnet")
    put_names(house.server.data_dir, "third", "", "#", BERT)
    house.reload()
    assert house.names() == ["third", BERT]
    put_names(house.server.data_dir, "third")
    house.reload()
    assert house.names() == ["third"]
    assert_unknown(house, BERT)
    shutil.rmtree(house.server.data_dir / "models" / "admin" / "third")
    house.list_file.write_text(lines)
    house.reload()
    assert house.names() == [BERT]


def test_files_that_were_replaced_are_opened_anew_at_a_reload(house: House) -> None:
    """The version number stays, the weights change."""
    house.small.put(house.server.data_dir, "admin/swapped")
    lines = house.list_file.read_text()
    house.list_file.write_text(lines + "swapped\n")
    house.reload()
    assert_same(vector(house, "swapped"), vector(house, BERT))
    house.small.put(house.server.data_dir, "admin/swapped", "mpnet")
    house.reload()
    until(lambda: np.abs(vector(house, "swapped") - vector(house, BERT)).max() > 0.01)
    shutil.rmtree(house.server.data_dir / "models" / "admin" / "swapped")
    house.list_file.write_text(lines)
    house.reload()


def test_a_list_goes_on_through_a_reload(house: House) -> None:
    counted = f'sluice_records_total{{model="admin/{BERT}",outcome="result"}}'
    before = house.server.metric(counted)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(ask, house.server, ["b " * 34] * 2048)
        until(lambda: answer.done() or house.server.metric(counted) > before)
        house.reload()
        assert len(vectors(answer.result())) == 2048


def test_only_the_admin_may_reload(house: House) -> None:
    url = f"{house.server.url}/api/models/reload"
    made = requests.post(f"{house.server.url}/api/keys", json={"kind": "read_only"}, auth=house.server.auth, timeout=30)
    cases: list[tuple[Auth | None, int]] = [
        (None, 401),
        (("admin", "0" * 32), 401),
        (house.eva, 403),
        (("admin", made.json()["key"]), 403),
        (house.server.auth, 200),
    ]
    for auth, status in cases:
        answer = requests.post(url, auth=auth, timeout=30)
        assert answer.status_code == status
        assert list(answer.json()) == (["models"] if status == 200 else ["error"])
    for end in ("", "/"):
        refused = requests.get(url + end, auth=house.server.auth, timeout=30)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
        assert requests.post(url + end, auth=house.server.auth, timeout=30).status_code == 200


def test_expect_of_a_reload_without_a_key_is_401(house: House) -> None:
    with Raw(house.server) as client:
        client.ask("POST", "/api/models/reload", auth=None, Expect="100-continue", Content_Length="1000")
        assert client.head().status == 401


# The setting that replaces the lists


def test_the_setting_replaces_both_lists(tmp_path: Path, small: SmallModels) -> None:
    """Acceptance 22: the order is that of the setting, and a missing model is left out with a warning."""
    data_dir = tmp_path / "data"
    for name, kind in ((BERT, "bert"), (MPNET, "mpnet"), ("third", "bert")):
        small.put(data_dir, f"admin/{name}", kind)
    put_names(data_dir, "third", BERT)
    settings = {"SLUICE_EMBEDDING_MODELS": f" {MPNET}, nowhere,admin/{BERT} ,{MPNET}", "SLUICE_SCORE_REPLICAS": "1"}
    with serving(data_dir, **settings) as server:
        house = House(server, small, server.auth)
        models = requests.get(f"{server.url}/models", timeout=30).json()["data"]["models"]
        assert list(models) == [MPNET, BERT]
        assert len([line for line in server.log.splitlines() if "WARNING" in line and "nowhere" in line]) == 1
        assert_unknown(house, "third")
        house.reload()
        assert house.names() == [MPNET, BERT]


@needs(MINILM)
def test_the_setting_may_name_one_shipped_model(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_EMBEDDING_MODELS=f"sluice/{MINILM}", SLUICE_SCORE_REPLICAS="1") as server:
        assert list(requests.get(f"{server.url}/models", timeout=30).json()["data"]["models"]) == [MINILM]
        assert ask(server, "a", MINILM).status_code == 200


def test_aliases_are_names_of_the_openai_shape(tmp_path: Path, small: SmallModels) -> None:
    """2.4."""
    small.put(tmp_path / "data", f"admin/{BERT}")
    aliases = f"text-embedding-3-small={BERT}, text-embedding-ada-002=admin/{BERT},lost=nowhere,{MPNET}={BERT}"
    settings = {"SLUICE_EMBEDDING_MODELS": BERT, "SLUICE_MODEL_ALIASES": aliases, "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path / "data", **settings) as server:
        expected = vectors(ask(server, "hello"))
        for alias in ("text-embedding-3-small", "text-embedding-ada-002", MPNET):
            answer = ask(server, "hello", alias, path=OPENAI)
            assert answer.json()["model"] == alias
            assert_same(vectors(answer), expected)
            assert requests.get(f"{server.url}/v1/models/{alias}", timeout=30).json()["id"] == alias
            assert_detail(ask(server, "hello", alias), ("assertion_error", ["body", "model"]))
        assert_openai_fault(ask(server, "hello", "lost", path=OPENAI), "model", "model_not_found", 404)
        listed = requests.get(f"{server.url}/v1/models", timeout=30).json()["data"]
        assert [model["id"] for model in listed] == [BERT]


# Models that have changed


OTHER_PRINT, OTHER_POOLING, NO_PRINT, NO_GRAPH, UNPRINTED = "other-print", "other-pooling", "no-print", "no-graph", "unprinted"
OFFLINE = [OTHER_PRINT, OTHER_POOLING, NO_PRINT, NO_GRAPH]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, small: SmallModels) -> Iterator[House]:
    """A server with models that do not load. One is the first listed model, which every replica opens at its start."""
    data_dir = tmp_path_factory.mktemp("damaged") / "data"
    _, mean = small.files()
    small.put(data_dir, f"admin/{OTHER_PRINT}", fingerprint=base64.b64encode(np.ones(32, "<f4").tobytes()).decode())
    small.put(data_dir, f"admin/{OTHER_POOLING}", pooling="cls", fingerprint=mean["fingerprint"])
    small.put(data_dir, f"admin/{NO_PRINT}", fingerprint="!")
    (small.put(data_dir, f"admin/{NO_GRAPH}") / GRAPH).write_bytes(b"this is no graph")
    folder = small.put(data_dir, f"admin/{UNPRINTED}")
    config = json.loads((folder.parent / CONFIG).read_text())
    del config["fingerprint"]
    (folder.parent / CONFIG).write_text(json.dumps(config))
    small.put(data_dir, f"admin/{BERT}")
    names = ",".join([*OFFLINE, UNPRINTED, BERT])
    with serving(data_dir, SLUICE_EMBEDDING_MODELS=names) as server:
        yield House(server, small, server.auth)


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("texts", ["a", ["b " * 34] * 1000], ids=["text", "list"])
def test_a_model_that_is_not_what_it_was_is_offline_in_both_shapes(damaged: House, name: str, texts: Any) -> None:
    """503, also for a list. Other requests are answered."""
    for path in SURFACES:
        answer = ask(damaged.server, texts, name, path=path)
        assert answer.status_code == 503
        if path == SIMPLE:
            assert answer.json() == {"detail": "Service Unavailable"}
        else:
            assert answer.json()["error"]["type"] == "server_error"
        assert ask(damaged.server, "a", path=path).status_code == 200
    checked = requests.get(f"{damaged.server.url}/api/models/admin/{name}/check", auth=damaged.server.auth, timeout=30).json()
    assert (checked["Status"], checked["Online"]) == ("offline", False)


def test_every_503_says_when_to_come_again(damaged: House) -> None:
    assert ask(damaged.server, "a", OTHER_PRINT).headers["Retry-After"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [(OTHER_PRINT, "cosine"), (OTHER_POOLING, "another pooling"), (NO_PRINT, "not base64"), (NO_GRAPH, "INVALID_PROTOBUF")],
)
def test_the_log_says_why_a_model_is_offline(damaged: House, name: str, reason: str) -> None:
    ask(damaged.server, "a", name)
    lines = [line for line in damaged.server.log.splitlines() if "does not load" in line and name in line]
    assert lines
    assert all(reason in line for line in lines)


def test_health_in_the_shape_of_tei_tells_of_the_model_that_embed_would_ask(damaged: House) -> None:
    """The first listed model is asked, and it does not load."""

    def health(query: str = "") -> requests.Response:
        return requests.get(f"{damaged.server.url}/health{query}", timeout=30)

    assert requests.post(f"{damaged.server.url}/embed", json={"inputs": "a"}, timeout=30).status_code == 503
    assert (health().status_code, health().json()["error_type"]) == (503, "Unhealthy")
    assert health().json()["error"].endswith("does not load.")
    assert health(f"?model={BERT}").status_code == 200


def test_models_beside_a_damaged_one_go_on(damaged: House) -> None:
    assert damaged.names() == [*OFFLINE, UNPRINTED, BERT]
    assert_same(vector(damaged, UNPRINTED), vector(damaged, BERT))
    assert requests.get(f"{damaged.server.url}/healthcheck", timeout=30).text == "ok"
    for query, record in (("?bulk=true", b'{"text":"a"}\n'), ("", b'{"text":"a"}')):
        refused = requests.post(
            damaged.server.model(f"admin/{OTHER_POOLING}") + query, data=record, auth=damaged.server.auth, timeout=30
        )
        assert refused.status_code == 503
        answer = requests.post(damaged.server.model(f"admin/{BERT}") + query, data=record, auth=damaged.server.auth, timeout=30)
        assert answer.status_code == 200


def test_a_damaged_model_that_was_mended_is_served_after_a_reload(damaged: House) -> None:
    data_dir = damaged.server.data_dir
    broken = [(data_dir / "models" / "admin" / OTHER_PRINT / CONFIG).read_text()]
    damaged.small.put(data_dir, f"admin/{OTHER_PRINT}")
    damaged.reload()
    assert_same(vector(damaged, OTHER_PRINT), vector(damaged, BERT))
    (data_dir / "models" / "admin" / OTHER_PRINT / CONFIG).write_text(broken[0])
    damaged.reload()
    assert ask(damaged.server, "a", OTHER_PRINT).status_code == 503


@needs(MINILM)
def test_another_fingerprint_takes_the_shipped_model_offline(tmp_path: Path) -> None:
    """A copy of its folder in the data directory has another fingerprint, as with cls pooling in place of mean."""
    source, target = ROOT / "models" / "sluice" / MINILM, tmp_path / "data" / "models" / "admin" / "copy"
    (target / "1").mkdir(parents=True)
    for name in (GRAPH, TOKENIZER):
        (target / "1" / name).symlink_to(source / "1" / name)
    config = json.loads((source / CONFIG).read_text())
    stored = np.frombuffer(base64.b64decode(config["fingerprint"]), "<f4")
    other = base64.b64encode(stored[::-1].tobytes()).decode()
    (target / CONFIG).write_text(json.dumps(config | {"owner": "admin", "name": "copy", "fingerprint": other}))
    with serving(tmp_path / "data", SLUICE_EMBEDDING_MODELS=f"copy,{MINILM}", SLUICE_SCORE_REPLICAS="1") as server:
        assert ask(server, "a", "copy").status_code == 503
        assert ask(server, "a", MINILM).status_code == 200
        assert "cosine" in server.log
