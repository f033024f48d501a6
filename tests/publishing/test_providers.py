"""Execution providers: the processor by default, others by a setting and by config.json; a missing one is one clear line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publishing.asking import predict, put, refused, shown
from tests.publishing.uploads import config, times
from tests.server.test_start import start
from tests.serving import Server, serving

# onnxruntime's own build for processors has this one as well; it leaves every operator to the processor.
OTHER = "azure"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose models run on another provider, and a model in a folder whose provider is missing."""
    data_dir = tmp_path_factory.mktemp("providers") / "data"
    folder = data_dir / "models/tester/lost"
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.onnx").write_bytes(times(2))
    head = {"owner": "tester", "name": "lost", "providers": ["cuda"]}
    (folder / "config.json").write_text(json.dumps(config() | head))
    with serving(data_dir, SLUICE_PROVIDERS=f"{OTHER},cpu") as running:
        yield running


def test_models_run_on_the_providers_of_the_setting(other: Server) -> None:
    assert predict(other, "brandon/HelloWorld", name="a")["result"] == {"greeting": "Hello a"}
    assert put(other, "admin/mine", times(3)).status_code == 201
    assert predict(other, "admin/mine", x=2)["result"] == {"y": 6}


def test_a_config_chooses_providers_for_its_model(other: Server) -> None:
    for providers in (["cpu"], [OTHER], ["AzureExecutionProvider", "CPUExecutionProvider"]):
        assert put(other, "admin/chosen", times(4), config={"providers": providers}).status_code == 201
        assert predict(other, "admin/chosen", x=2)["result"] == {"y": 8}


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        ("cuda", "is not in the onnxruntime that is installed, which has: azure, cpu"),
        ("cudda", "is unknown to onnxruntime, which has"),
    ],
)
def test_a_missing_provider_is_one_sentence_for_its_publisher(other: Server, provider: str, why: str) -> None:
    reason = refused(put(other, "admin/never", times(1), config={"providers": [provider]}), 422)
    assert reason.startswith(f"the execution provider '{provider}' {why}")
    assert "\n" not in reason


def test_a_missing_provider_of_a_model_in_a_folder_is_one_line_in_the_log(other: Server) -> None:
    assert shown(other, "tester/lost")["status"] == "offline"
    lines = [line for line in other.log.splitlines() if "tester/lost" in line]
    assert len(lines) == 1
    assert "the execution provider 'cuda' is not in the onnxruntime that is installed" in lines[0]


@pytest.mark.parametrize("providers", ["cuda", "cuda,cpu", "tensorrt"])
def test_a_server_whose_provider_is_missing_does_not_start_and_says_so_in_one_line(tmp_path: Path, providers: str) -> None:
    done = start("--port", "0", "--data-dir", str(tmp_path / "data"), "--providers", providers)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if "provider" in line]
    assert f"SLUICE_PROVIDERS={providers}: the execution provider '{providers.split(',')[0]}' is not in the onnxruntime" in line
    assert "Traceback" not in done.stderr


def test_a_value_that_names_no_providers_is_a_usage_error(tmp_path: Path) -> None:
    done = start("--data-dir", str(tmp_path / "data"), "--providers", "cuda:0")
    reason, _, sets = done.stderr.partition(" What it sets: ")
    must = "SLUICE_PROVIDERS=cuda:0: this value must be names such as cuda,cpu, separated by commas."
    assert (done.returncode, reason, sets.count("\n")) == (64, must, 1)
