"""The model repository turns folders into models, keeps working beside a bad one, and decides access in a fixed order."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from engine.accounts import Caller
from engine.errors import EngineError
from engine.repository.config import parse_config
from engine.repository.index import Repository
from engine.store import ModelOverrides

EVA = Caller("eva", "full", is_admin=False)
EVA_READ_ONLY = Caller("eva", "read_only", is_admin=False)
ADMIN = Caller("admin", "full", is_admin=True)
ADMIN_READ_ONLY = Caller("admin", "read_only", is_admin=False)
CHECKOUT = Path(__file__).parents[3]


def config(owner: str = "eva", name: str = "churn", **keys: Any) -> dict[str, Any]:
    base = {
        "owner": owner,
        "name": name,
        "task": "predict",
        "inputs": [{"kind": "column", "input": "x", "field": "x"}],
        "outputs": [{"output": "y", "as": "y"}],
        "example": {"x": 1.0},
    }
    return base | keys


def nested(depth: int) -> list[Any]:
    """A list in a list in a list..."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def add(root: Path, owner: str = "eva", name: str = "churn", versions: tuple[int, ...] = (1,), **keys: Any) -> Path:
    """Make a model folder. The repository never opens the graph, so its bytes do not matter here."""
    folder = root / owner / name
    for version in versions:
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
        (folder / str(version) / "model.onnx").write_bytes(b"graph")
    (folder / "config.json").write_text(json.dumps(config(owner, name, **keys)))
    return folder


def scanned(*roots: Path, overrides: dict[tuple[str, str], ModelOverrides] | None = None) -> Repository:
    repository = Repository(roots)
    repository.scan(overrides)
    return repository


def code_of(repository: Repository, caller: Caller | None, owner: str, name: str, version: int | None = None) -> str:
    with pytest.raises(EngineError) as caught:
        repository.access(caller, owner, name, version)
    return caught.value.code


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_every_model_of_the_checkout_can_be_used() -> None:
    paths = sorted((CHECKOUT / "models").glob("*/*/config.json"))
    assert paths
    for path in paths:
        model = parse_config(path.read_bytes())
        assert (model.owner, model.name) == (path.parent.parent.name, path.parent.name)


def test_models_are_listed_by_owner_and_name_with_their_versions(data: Path) -> None:
    add(data, "tom", "a")
    add(data, "eva", "z", versions=(1, 2, 10))
    add(data, "eva", "b")
    models = scanned(data).models()
    assert [model.title for model in models] == ["eva/b", "eva/z", "tom/a"]
    assert (models[1].numbers, models[1].active_version, models[1].latest_version) == ([1, 2, 10], 10, 10)


def test_a_root_that_is_not_there_yet_holds_nothing(data: Path) -> None:
    assert scanned(data).models() == []


def test_hidden_unfinished_and_foreign_folders_are_not_models(data: Path) -> None:
    folder = add(data)
    add(data, "eva", ".churn.new")
    add(data, ".eva", "churn")
    (folder / ".3").mkdir()
    (folder / "4").mkdir()  # no graph: its weights were not fetched
    for name in ("0", "01", "latest", "__pycache__"):
        (folder / name).mkdir()
        (folder / name / "model.onnx").write_bytes(b"graph")
    (data / "models.txt").write_text("churn\n")
    (data / "eva" / "empty").mkdir()
    [model] = scanned(data).models()
    assert (model.title, model.numbers) == ("eva/churn", [1])


def test_the_config_of_a_version_wins_over_that_of_its_model(data: Path) -> None:
    folder = add(data, versions=(1, 2), description="old")
    (folder / "2" / "config.json").write_text(json.dumps(config(description="new", shared=True)))
    [model] = scanned(data).models()
    assert model.versions[1].config.description == "old"
    assert (model.description, model.shared) == ("new", True)


def test_two_roots_are_one_repository_and_the_data_directory_wins_on_equal_numbers(shipped: Path, data: Path) -> None:
    add(shipped, versions=(1, 2), description="shipped")
    add(data, versions=(2, 3), description="published")
    [model] = scanned(shipped, data).models()
    assert model.numbers == [1, 2, 3]
    assert [model.versions[number].folder.parents[2] for number in model.numbers] == [shipped, data, data]
    assert [model.versions[number].config.description for number in model.numbers] == ["shipped", "published", "published"]


def test_a_published_version_without_a_config_of_its_own_takes_the_shipped_one(shipped: Path, data: Path) -> None:
    add(shipped, description="shipped")
    (add(data, versions=(2,)) / "config.json").unlink()
    [model] = scanned(shipped, data).models()
    assert model.versions[2].config.description == "shipped"


def test_a_model_is_shipped_when_part_of_it_is_outside_the_data_directory(shipped: Path, data: Path) -> None:
    add(shipped, "sluice", "iris")
    add(data, "sluice", "iris", versions=(2,))
    add(data, "eva", "churn")
    assert [(model.title, model.shipped) for model in scanned(shipped, data).models()] == [
        ("eva/churn", False),
        ("sluice/iris", True),
    ]


def test_the_owners_are_those_of_all_roots(shipped: Path, data: Path) -> None:
    add(shipped, "sluice", "iris")
    add(data, "eva", "churn")
    assert scanned(shipped, data).owners() == {"sluice", "eva"}


def test_what_was_changed_at_run_time_overrides_the_folder(data: Path) -> None:
    add(data, versions=(1, 2, 3))
    [model] = scanned(data, overrides={("eva", "churn"): ModelOverrides(active_version=2, shared=True)}).models()
    assert (model.active_version, model.latest_version, model.shared) == (2, 3, True)


def test_an_active_version_that_is_gone_gives_way_to_the_highest(data: Path) -> None:
    add(data, versions=(1, 2))
    [model] = scanned(data, overrides={("eva", "churn"): ModelOverrides(active_version=7)}).models()
    assert model.active_version == 2


def test_sharing_can_be_taken_back_from_what_the_config_says(data: Path) -> None:
    add(data, shared=True)
    [model] = scanned(data, overrides={("eva", "churn"): ModelOverrides(shared=False)}).models()
    assert not model.shared


def test_a_scan_finds_new_models_and_drops_those_that_are_gone(data: Path) -> None:
    folder = add(data)
    repository = scanned(data)
    folder.rename(folder.with_name("other"))
    (folder.with_name("other") / "config.json").write_text(json.dumps(config(name="other")))
    repository.scan()
    assert [model.name for model in repository.models()] == ["other"]


FAULTS = {
    "{": "config.json is not JSON",
    "[" * 100_000: "config.json is nested deeper than 64 levels",
    json.dumps(config(example={"x": nested(63)})): "config.json is nested deeper than 64 levels",
    json.dumps(config(example={"x": 0})).replace("0}", "[" * 975 + "]" * 975 + "}"): "config.json is nested deeper than 64 levels",
    '{"example": {"x": NaN}}': "config.json is not JSON",
    '{"example": {"x": 1e999}}': "config.json is not JSON",
    '{"description": "\\ud800"}': "config.json is not JSON",
    "[]": "config.json: a JSON object is needed",
    json.dumps(config(name="other")): "config.json names eva/other, but its folder is eva/churn",
    json.dumps(config(colour="red")): "field 'colour': extra inputs are not permitted",
    json.dumps(config(shared="yes")): "field 'shared': input should be a valid boolean",
    json.dumps(config(max_batch_size=0)): "field 'max_batch_size': input should be greater than or equal to 1",
    json.dumps(config(inputs=[])): "field 'inputs'",
    json.dumps(config(inputs=[{"kind": "magic", "input": "x"}])): "field 'inputs.0'",
    json.dumps(config(inputs=[{"kind": "matrix", "input": "x", "features": []}])): "field 'inputs.0.matrix.features'",
    json.dumps(
        config(inputs=[{"kind": "text", "input": "x", "field": "t", "max_tokens": 9, "tokenizer": "../t.json"}])
    ): "tokenizer",
    json.dumps(config(outputs=[{"as": "y"}])): "field 'outputs.0.output': field required",
    json.dumps(config(outputs=[{"output": "y", "as": "y", "form": "object"}])): "form 'object' needs labels",
    json.dumps(config(outputs=[{"output": "y", "as": None}, {"output": "z", "as": "z"}])): "'as': null needs a single output",
    json.dumps(config(outputs=[{"output": "y", "as": "y"}, {"output": "z", "as": "y"}])): "two outputs have the same 'as'",
    json.dumps(config(task="embed")): "task 'embed' needs dim and max_tokens",
}


@pytest.mark.parametrize(("text", "reason"), FAULTS.items(), ids=[f"{number}" for number in range(len(FAULTS))])
def test_a_bad_config_is_listed_with_its_reason_and_no_path(
    data: Path, caplog: pytest.LogCaptureFixture, text: str, reason: str
) -> None:
    (add(data) / "config.json").write_text(text)
    add(data, "tom", "fine")
    with caplog.at_level(logging.WARNING):
        bad, fine = scanned(data).models()
    assert reason in bad.faults[1]
    assert str(data) not in bad.faults[1] + caplog.text
    assert "eva/churn" in caplog.text
    assert (bad.active, bad.numbers, bad.shared, bad.description) == (None, [1], False, "")
    assert fine.active is not None


def test_a_config_may_be_nested_up_to_the_limit(data: Path) -> None:
    """The file and its example are two levels."""
    add(data, example={"x": nested(62)})
    [model] = scanned(data).models()
    assert model.faults == {}


def test_of_a_long_description_in_a_folder_only_the_beginning_is_shown(data: Path) -> None:
    add(data, description="x" * 100_000)
    [model] = scanned(data).models()
    assert (model.faults, model.description) == ({}, "x" * 4096)


def test_a_model_without_config_is_listed_with_that_reason(data: Path) -> None:
    (add(data) / "config.json").unlink()
    [model] = scanned(data).models()
    assert model.faults == {1: "config.json is missing"}


def test_a_version_with_a_fault_leaves_the_highest_good_one_active(data: Path) -> None:
    folder = add(data, versions=(1, 2))
    (folder / "2" / "config.json").write_text("{")
    repository = scanned(data)
    [model] = repository.models()
    assert (model.active_version, model.latest_version, model.numbers) == (1, 2, [1, 2])
    assert repository.access(EVA, "eva", "churn").number == 1
    assert code_of(repository, EVA, "eva", "churn", 2) == "no_instances"


def test_defaults_are_filled_in_for_a_replica_and_left_out_of_what_was_written(data: Path) -> None:
    add(data)
    written = scanned(data).access(EVA, "eva", "churn").config
    assert written.as_written() == config()
    assert written.as_dict()["outputs"][0] == {
        "output": "y",
        "as": "y",
        "labels": None,
        "form": "list",
        "squeeze": True,
        "axis": 0,
        "pooling": None,
        "normalise": False,
    }


def test_the_embedding_config_of_the_specification_is_understood() -> None:
    text = """
        {"owner": "sluice", "name": "all-MiniLM-L6-v2", "task": "embed", "shared": true, "dim": 384, "max_tokens": 256,
         "max_batch_size": 16, "inputs": [{"kind": "text", "input": "input_ids", "field": "text", "tokenizer": "tokenizer.json",
         "max_tokens": 256, "pad_id": 0, "pad_token": "[PAD]"}],
         "outputs": [{"output": "sentence_embedding", "as": "embedding"}], "example": {"text": "Hello"}}
    """
    model = parse_config(text.encode())
    assert model.text is not None
    assert (model.dim, model.max_batch_tokens) == (384, 4096)


@pytest.fixture
def repository(data: Path) -> Repository:
    add(data, "eva", "private", versions=(1, 2))
    add(data, "tom", "private")
    add(data, "tom", "open", versions=(1, 2), shared=True)
    return scanned(data)


def test_own_models_and_shared_ones_can_be_used(repository: Repository) -> None:
    assert repository.access(EVA, "eva", "private").number == 2
    assert repository.access(EVA, "tom", "open").title == "tom/open"
    assert repository.access(EVA, "tom", "open", 1).number == 1


def test_an_unshared_model_of_another_owner_looks_like_one_that_does_not_exist(repository: Repository) -> None:
    for owner, name in (("tom", "private"), ("tom", "nothing"), ("nobody", "private"), ("eva", "nothing"), ("EVA", "private")):
        assert code_of(repository, EVA, owner, name) == "model_not_found"


@pytest.mark.parametrize("version", [0, -1, 3, 99])
def test_only_a_kept_version_can_be_used(repository: Repository, version: int) -> None:
    assert code_of(repository, EVA, "eva", "private", version) == "model_not_found"


def test_a_read_only_key_may_use_its_own_models_and_learns_nothing_of_others(repository: Repository) -> None:
    assert repository.access(EVA_READ_ONLY, "eva", "private").number == 2
    assert code_of(repository, EVA_READ_ONLY, "eva", "nothing") == "model_not_found"
    for owner, name in (("tom", "open"), ("tom", "private"), ("tom", "nothing"), ("nobody", "x")):
        assert code_of(repository, EVA_READ_ONLY, owner, name) == "full_key_needed"


def test_without_credentials_only_shared_models_can_be_used(repository: Repository) -> None:
    assert repository.access(None, "tom", "open").number == 2
    assert code_of(repository, None, "tom", "private") == "model_not_found"
    assert code_of(repository, None, "tom", "nothing") == "model_not_found"


def test_the_admin_uses_every_model_with_its_full_key_only(repository: Repository) -> None:
    assert repository.access(ADMIN, "tom", "private").number == 1
    assert code_of(repository, ADMIN_READ_ONLY, "tom", "private") == "full_key_needed"


def test_a_caller_is_shown_the_models_it_may_use(repository: Repository) -> None:
    def titles(caller: Caller | None) -> list[str]:
        return [model.title for model in repository.visible(caller)]

    assert titles(EVA) == ["eva/private", "tom/open"]
    assert titles(EVA_READ_ONLY) == ["eva/private"]
    assert titles(ADMIN) == ["eva/private", "tom/open", "tom/private"]
    assert titles(None) == ["tom/open"]


# Changing


def test_an_owner_and_the_admin_may_change_a_model_and_make_one(data: Path) -> None:
    add(data)
    repository = scanned(data)
    for caller in (EVA, ADMIN):
        model = repository.changeable(caller, "eva", "churn")
        assert model is not None
        assert model.title == "eva/churn"
        assert repository.changeable(caller, "eva", "other") is None


@pytest.mark.parametrize(("shared", "code"), [(True, "forbidden"), (False, "model_not_found")])
def test_others_may_not_change_a_model_and_learn_only_of_shared_ones(data: Path, shared: bool, code: str) -> None:
    add(data, "tom", "churn", shared=shared)
    repository = scanned(data)
    for name, expected in (("churn", code), ("none", "model_not_found")):
        with pytest.raises(EngineError) as caught:
            repository.changeable(EVA, "tom", name)
        assert caught.value.code == expected
    for caller in (EVA_READ_ONLY, ADMIN_READ_ONLY):
        with pytest.raises(EngineError) as caught:
            repository.changeable(caller, caller.name, "churn")
        assert caught.value.code == "full_key_needed"


def test_a_model_that_is_read_again_is_not_seen_before_it_is_put_in_place(data: Path) -> None:
    add(data)
    repository = scanned(data)
    add(data, versions=(2,))
    model = repository.read("eva", "churn", ModelOverrides(active_version=1))
    assert model is not None
    assert (model.numbers, model.active_version) == ([1, 2], 1)
    assert repository.models()[0].numbers == [1]
    repository.replace("eva", "churn", model)
    assert repository.models() == [model]
    model.forget(2)
    assert code_of(repository, EVA, "eva", "churn", 2) == "model_not_found"
    repository.replace("eva", "churn", None)
    assert repository.models() == []
