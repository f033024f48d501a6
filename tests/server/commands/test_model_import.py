"""`model import` makes a listed model with the right vectors from a sentence-transformers folder, or leaves nothing behind."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tokenizers import Tokenizer

from tests import sentence_folders
from tests.serving import ROOT, Server, serving

TEXTS = ["hello world", "", "Hello texts, hello worlds. " * 3, "zzz"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-model"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("import") / "data", SLUICE_SCORE_REPLICAS="1") as running:
        yield running


def imported(data_dir: Path, folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "server", "--data-dir", str(data_dir), "model", "import", str(folder), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def embedded(server: Server, model: str, texts: list[str]) -> np.ndarray:
    answer = requests.post(f"{server.url}/embeddings", json={"model": model, "input": texts}, auth=server.auth, timeout=60)
    assert answer.status_code == 200, answer.text
    return np.array([item["embedding"] for item in answer.json()["data"]], np.float32)


def listed(server: Server) -> dict[str, Any]:
    models: dict[str, Any] = requests.get(f"{server.url}/models", auth=server.auth, timeout=10).json()["data"]["models"]
    return models


@pytest.mark.parametrize(("kind", "layers"), [("bert", 12), ("mpnet", 2)])
def test_a_running_server_is_told_and_gives_the_vectors_of_a_forward_pass(
    server: Server, folder: Path, kind: str, layers: int
) -> None:
    weights = sentence_folders.write(folder, kind, num_hidden_layers=layers)
    done = imported(server.data_dir, folder, "--name", f"twelve-{kind}", "--url", server.url)
    assert done.returncode == 0, done.stderr
    config = sentence_folders.config_of(kind) | {"num_hidden_layers": layers}
    assert listed(server)[f"twelve-{kind}"] == {"dim": config["hidden_size"]}
    tokenizer = Tokenizer.from_file(str(server.data_dir / f"models/admin/twelve-{kind}/1/tokenizer.json"))
    expected = [sentence_folders.embed(config, weights, tokenizer.encode(text).ids[:36]) for text in TEXTS]
    np.testing.assert_allclose(embedded(server, f"twelve-{kind}", TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("form", ["sharded", "half", "vocabulary"])
def test_a_folder_in_another_form_gives_the_same_model(server: Server, folder: Path, tmp_path: Path, form: str) -> None:
    sentence_folders.write(folder, dtype="F16" if form == "half" else "F32", num_files=2 if form == "sharded" else 1)
    if form == "vocabulary":
        (folder / "tokenizer.json").unlink()
    done = imported(server.data_dir, folder, "--name", form, "--url", server.url)
    assert done.returncode == 0, done.stderr
    plain = tmp_path / "plain"
    plain.mkdir()
    sentence_folders.write(plain)
    assert imported(server.data_dir, plain, "--name", f"plain-{form}", "--url", server.url).returncode == 0
    vectors, expected = embedded(server, form, TEXTS), embedded(server, f"plain-{form}", TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=1e-2 if form == "half" else 1e-6)


def roberta(folder: Path) -> None:
    sentence_folders.change_json(folder / "config.json", model_type="xlm-roberta")


def dense(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_modules(folder: Path) -> None:
    (folder / "modules.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (roberta, "only bert and mpnet, not 'xlm-roberta'"),
        (dense, "a Dense module is not served"),
        (pickled, "convert it to safetensors"),
        (no_modules, "the folder has no modules.json"),
        (shutil.rmtree, "there is no folder"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_folder_that_cannot_be_served_is_refused_in_one_line_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    sentence_folders.write(folder)
    spoil(folder)
    done = imported(tmp_path / "data", folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("model import: ")
    assert reason in last
    assert not list((tmp_path / "data").rglob("models/*"))


@pytest.mark.parametrize(
    "options", [("--name", "-x"), ("--name", "a/b"), ("--owner", "models"), ("--owner", "a b"), ("--url", "nonsense")]
)
def test_bad_names_and_addresses_are_refused_before_anything_is_built(
    folder: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    sentence_folders.write(folder)
    done = imported(tmp_path / "data", folder, *options)
    assert done.returncode in (1, 64)
    assert "building" not in done.stderr
    assert not (tmp_path / "data" / "models").exists()


def test_a_second_import_is_the_next_version_and_only_the_owner_sees_a_private_model(tmp_path: Path, folder: Path) -> None:
    sentence_folders.write(folder)
    data_dir = tmp_path / "data"
    assert "admin/tiny-model version 1: 32 dimensions" in imported(data_dir, folder).stdout
    assert "admin/tiny-model version 2" in imported(data_dir, folder).stdout
    assert "eva/tiny-model version 1" in imported(data_dir, folder, "--owner", "eva", "--private").stdout
    assert (data_dir / "models" / "models.txt").read_text() == "tiny-model\neva/tiny-model\n"
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1") as server:
        nobody = requests.get(f"{server.url}/models", timeout=10).json()["data"]["models"]
        assert "tiny-model" in nobody
        assert "eva/tiny-model" not in nobody
        assert "eva/tiny-model" in listed(server), "the admin acts for everybody"
        record = requests.get(f"{server.url}/api/models/admin/tiny-model", auth=server.auth, timeout=10).json()
        assert (record["active_version"], record["versions"]) == (2, [1, 2])


def test_when_the_server_cannot_be_told_the_command_says_so_and_the_model_stays(tmp_path: Path, folder: Path) -> None:
    sentence_folders.write(folder)
    done = imported(tmp_path / "data", folder, "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "the model is imported, but the server was not told" in done.stderr
    assert (tmp_path / "data/models/admin/tiny-model/1/model.onnx").is_file()


def test_the_key_follows_no_redirect(tmp_path: Path, folder: Path) -> None:
    sentence_folders.write(folder)
    asked: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://%b/\r\nContent-Length: 0\r\n\r\n" % elsewhere.encode())

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        elsewhere = f"127.0.0.1:{other.getsockname()[1]}"
        with ThreadPoolExecutor(1) as thread:
            served = thread.submit(serve)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            done = imported(tmp_path / "data", folder, "--url", url, "--key", "mine")
            served.result(timeout=30)
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert b"Authorization" in asked[0]
    assert done.returncode == 1
    assert "the server was not told: HTTP Error 302" in done.stderr
