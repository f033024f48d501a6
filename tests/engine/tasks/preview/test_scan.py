"""Which datasets lie in the roots, and what lists show of them."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.tasks.preview.scan import Scanner
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter, lay

README = front_matter(
    """
pretty_name: Some mails
language: [en, de]
license: mit
task_ids:
- text-scoring
tags: [mail, odd]
annotations_creators: [expert-generated]
paperswithcode_id: mails
"""
)


def scan(*roots: Path, name: str | None = None) -> dict[str, Any]:
    told = Scanner().scan({"roots": [str(root) for root in roots], "name": name})
    return told | {"by_name": {one["name"]: one for one in told["datasets"]}}


def test_a_folder_with_a_readme_or_a_data_file_is_a_dataset_and_any_other_the_folder_of_an_owner(datasets: Datasets) -> None:
    datasets.lay("plain", {"a.csv": "x\n1\n"})
    datasets.lay("about", {"README.md": "# Hello", "deep/a.csv": "x\n1\n"})
    datasets.lay("ann/mails", {"a.csv": "x\n1\n"})
    datasets.lay("ann/notes", {"readme.pdf": "x"})
    assert [*scan(datasets.root)["by_name"]] == ["about", "ann/mails", "ann/notes", "plain"]


def test_names_that_no_dataset_can_have_and_links_and_hidden_folders_are_passed_over(datasets: Datasets, tmp_path: Path) -> None:
    outside = lay(tmp_path, "outside", {"a.csv": "x\n1\n"})
    datasets.lay(".hidden", {"a.csv": "x\n1\n"})
    datasets.lay("a..b", {"a.csv": "x\n1\n"})
    datasets.lay("ümlaut", {"a.csv": "x\n1\n"})
    (datasets.root / "link").symlink_to(outside)
    (datasets.root / "ann").mkdir()
    (datasets.root / "ann" / "link").symlink_to(outside)
    assert scan(datasets.root)["datasets"] == []


def test_an_owner_may_have_a_sign_in_its_name_and_a_dataset_may_not(datasets: Datasets) -> None:
    for name in ("ann+b@example.org/mails", "ann/a@b", "ann@x", "a+b"):
        datasets.lay(name, {"a.csv": "x\n1\n"})
    assert [*scan(datasets.root)["by_name"]] == ["ann+b@example.org/mails"]
    assert [*scan(datasets.root, name="ann+b@example.org/mails")["by_name"]] == ["ann+b@example.org/mails"]
    assert datasets.rows("ann+b@example.org/mails").rows == [{"x": 1}]


def test_the_first_root_wins_and_the_other_is_told(datasets: Datasets, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lay(first, "same", {"a.csv": "x\n1\n"})
    lay(second, "same", {"b.csv": "x\n1\n"})
    told = scan(first, second)
    assert told["by_name"]["same"]["root"] == str(first)
    assert told["shadowed"] == [{"name": "same", "root": str(second)}]


def test_roots_that_are_empty_or_missing_are_told(tmp_path: Path, datasets: Datasets) -> None:
    assert scan(datasets.root, tmp_path / "missing") == {"datasets": [], "shadowed": [], "empty": True, "by_name": {}}


def test_a_folder_in_which_an_upload_has_not_ended_is_no_dataset(datasets: Datasets) -> None:
    datasets.lay("ann/begun", {".sluice/staging/1/block": "x"})
    datasets.lay("ann/deleted", {".sluice/segments/1/rows.parquet": "x"})
    datasets.lay("ann/made", {".sluice/HEAD": "1\n"})
    datasets.lay("ann/laid", {".sluice/hub.json": "[]", "a.csv": "x\n1\n"})
    assert [*scan(datasets.root)["by_name"]] == ["ann/laid", "ann/made"]


def test_one_name_can_be_looked_for_alone(datasets: Datasets) -> None:
    datasets.lay("ann/mails", {"a.csv": "x\n1\n"})
    datasets.lay("ann/notes", {"a.csv": "x\n1\n"})
    assert [*scan(datasets.root, name="ann/notes")["by_name"]] == ["ann/notes"]
    assert scan(datasets.root, name="../x")["datasets"] == []


def test_the_revision_changes_with_the_name_the_size_and_the_time_of_any_file(datasets: Datasets) -> None:
    folder = datasets.lay("d", {"a.csv": "x\n1\n", "deep/b.txt": "b"})
    seen = {revision_of(datasets)}
    os.utime(folder / "deep" / "b.txt", ns=(1, 1))
    seen.add(revision_of(datasets))
    (folder / "deep" / "b.txt").rename(folder / "deep" / "c.txt")
    seen.add(revision_of(datasets))
    (folder / "a.csv").write_text("x\n12\n")
    seen.add(revision_of(datasets))
    assert len(seen) == 4
    assert revision_of(datasets) in seen
    assert all(len(one) == 40 for one in seen)


def test_what_sluice_keeps_in_a_dataset_does_not_change_its_revision(datasets: Datasets) -> None:
    folder = datasets.lay("d", {"a.csv": "x\n1\n"})
    before = revision_of(datasets)
    lay(folder, ".sluice", {"HEAD": "1"})
    assert revision_of(datasets) == before


def revision_of(datasets: Datasets) -> str:
    revision: str = scan(datasets.root)["by_name"]["d"]["revision"]
    return revision


def test_the_card_has_tags_in_the_order_of_the_front_matter_and_texts_of_the_body(datasets: Datasets) -> None:
    bibtex = "\n```bibtex\n@article{x, title={Y}}\n```\n"
    datasets.lay("d", {"README.md": README + bibtex})
    assert scan(datasets.root)["by_name"]["d"]["card"] == {
        "title": "Some mails",
        "tags": [
            "languages:en",
            "languages:de",
            "licenses:mit",
            "task_ids:text-scoring",
            "annotations_creators:expert-generated",
            "mail",
            "odd",
        ],
        "description": "What it is.",
        "citation": "@article{x, title={Y}}",
        "paperswithcode_id": "mails",
        "license": "mit",
        "viewer": True,
    }


def test_a_dataset_is_private_if_its_readme_says_so_also_where_it_cannot_be_read(datasets: Datasets) -> None:
    datasets.lay("open", {"README.md": front_matter("license: mit")})
    datasets.lay("shut", {"README.md": front_matter("private: true")})
    datasets.lay("broken", {"README.md": "---\nprivate: true\nx: [\n---\n"})
    told = scan(datasets.root)["by_name"]
    assert {name: one["private"] for name, one in told.items()} == {"broken": True, "open": False, "shut": True}
    assert told["broken"]["card"] is None


@pytest.mark.parametrize("line", ["private: 'true'", '"private": yes', "private: 1", "private : On"])
@pytest.mark.parametrize("rest", ["", "\nx: ["], ids=["whole", "broken"])
def test_however_it_is_written_private_is_private(datasets: Datasets, line: str, rest: str) -> None:
    datasets.lay("d", {"README.md": f"---\n{line}{rest}\n---\n"})
    assert scan(datasets.root)["by_name"]["d"]["private"] is True
