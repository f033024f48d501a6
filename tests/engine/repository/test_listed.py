"""Which embedding models are listed: several writers of one list, several models of one name, and the operator's aliases."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.accounts import Caller
from engine.repository.index import Repository
from engine.repository.listed import LIST_FILE, ListedModels, append_name, read_names


def put(root: Path, title: str, *, shared: bool = True) -> None:
    """Make a folder that looks like an embedding model. No test here opens the model."""
    owner, name = title.split("/")
    folder = root / owner / name
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"")
    text = {"kind": "text", "input": "input_ids", "field": "text", "max_tokens": 8}
    config = {"owner": owner, "name": name, "task": "embed", "shared": shared, "dim": 4, "max_tokens": 8, "inputs": [text]}
    config |= {"outputs": [{"output": "v", "as": "embedding"}], "example": {"text": "a"}}
    (folder / "config.json").write_text(json.dumps(config))


def listing_of(tmp_path: Path, lines: str, *titles: str, aliases: dict[str, str] | None = None) -> ListedModels:
    shipped, written = tmp_path / "shipped", tmp_path / "written"
    written.mkdir()
    for title in titles:
        put(shipped if title.startswith("sluice/") else written, title)
    (written / LIST_FILE).write_text(lines)
    repository = Repository([shipped, written])
    repository.scan()
    listing = ListedModels(repository, aliases=aliases)
    listing.read()
    return listing


def test_names_that_are_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    names = [f"model-{i}" for i in range(24)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: append_name(tmp_path, name), names))
    assert sorted(read_names(tmp_path / LIST_FILE)) == sorted(names)


def test_a_bare_name_means_the_shipped_model_even_when_other_owners_have_one(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "small\neva/small\n", "eva/small", "sluice/small", "adam/small")
    assert [(one.name, one.title) for one in listing.visible(None)] == [("small", "sluice/small"), ("eva/small", "eva/small")]


def test_an_alias_takes_precedence_over_a_model_with_the_same_name(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "small\nada\n", "sluice/small", "mallory/ada", aliases={"ada": "small"})
    accepted = listing.accepted(None)
    assert accepted["ada"].title == "sluice/small"
    assert accepted["mallory/ada"].title == "mallory/ada"


def test_an_alias_of_a_model_that_is_not_listed_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        listing = listing_of(tmp_path, "small\n", "sluice/small", aliases={"ada": "nowhere", "bob": "sentence-transformers/small"})
    assert [record.args for record in caplog.records] == [("ada", "no model 'nowhere' is listed")]
    assert "ada" not in listing.accepted(None)
    assert listing.accepted(None)["bob"].title == "sluice/small"


@pytest.mark.parametrize(("names", "level"), [((), logging.DEBUG), (("small",), logging.WARNING)])
def test_a_model_that_nobody_has_fetched_is_warned_of_only_where_the_setting_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], level: int
) -> None:
    folder = tmp_path / "shipped" / "sluice" / "small"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "shipped" / LIST_FILE).write_text("small\n")
    with caplog.at_level(logging.DEBUG):
        ListedModels(Repository([tmp_path / "shipped", tmp_path / "written"]), instead_of_files=names).read()
    [record] = [record for record in caplog.records if record.name == "sluice.listed"]
    assert record.levelno == level
    assert "make models" in record.getMessage()


def test_a_model_of_another_user_never_answers_to_the_name_of_one_that_ships(tmp_path: Path) -> None:
    """Also while the one that ships has no weights, and also when the list names the other one."""
    folder = tmp_path / "shipped" / "sluice" / "small"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    listing = listing_of(tmp_path, "small\nmallory/small\n", "mallory/small")
    for caller in (None, Caller("mallory", "full", is_admin=False), Caller("admin", "full", is_admin=True)):
        accepted = listing.accepted(caller)
        assert [one.name for one in listing.visible(caller)] == ["mallory/small"]
        assert accepted.keys() == {"mallory/small"}


def test_a_bare_name_is_for_the_models_of_the_admin_and_never_for_those_of_a_user(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "house\nother\n", "eva/house", "admin/house", "eva/other")
    assert [(one.name, one.title) for one in listing.visible(None)] == [("house", "admin/house"), ("eva/other", "eva/other")]
    assert {"house", "admin/house", "sentence-transformers/house", "eva/other"} == listing.accepted(None).keys()


def test_publishing_lists_the_model_of_a_user_in_full(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, "", "eva/new", "admin/own")
    for model in listing._repository.models():
        listing.enter(model.owner, model.name)
    assert read_names(tmp_path / "written" / LIST_FILE) == ["own", "eva/new"]
