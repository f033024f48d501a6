"""Configs and splits: what README.md declares, else what the names of folders and files say."""

import pytest

from engine.tasks.preview.layout import matches_pattern
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import flat_picture, front_matter, json_lines, wav

ROW = "a\n1\n"


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["a.csv"], ["train"]),
        (["a.csv", "b.csv"], ["train"]),
        (["test.csv", "train.csv", "dev.csv"], ["train", "validation", "test"]),
        (["x-training-1.csv", "x-training-2.csv", "x-eval.csv"], ["train", "test"]),
        (["my_validation_set.csv", "Testing.csv"], ["validation", "test"]),
        (["train/1.csv", "val/1.csv"], ["train", "validation"]),
        (["some-train-things/1.csv", "evaluation/1.csv"], ["train", "test"]),
        (["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/odd-00000-of-00001.csv"], ["train", "odd"]),
        (["data/test-00000-of-00001.csv", "data/b-00000-of-00001.csv", "data/a-00000-of-00001.csv"], ["test", "a", "b"]),
        (["trainer.csv", "contest.csv"], ["train"]),
        (["train.csv", "notes.csv"], ["train"]),
    ],
    ids=str,
)
def test_splits_come_from_names(datasets: Datasets, files: list[str], splits: list[str]) -> None:
    datasets.lay("d", dict.fromkeys(files, ROW))
    assert datasets.listed("d") == {"default": splits}


def test_files_without_a_word_beside_files_with_one_are_left_out(datasets: Datasets) -> None:
    datasets.lay("d", {"train.csv": "a\n1\n", "notes.csv": "a\n2\n"})
    assert datasets.rows("d").rows == [{"a": 1}]


def test_several_files_of_a_split_follow_each_other_by_name(datasets: Datasets) -> None:
    datasets.lay("d", {"b.csv": "a,c\n3,\n", "a.csv": "a,b\n1,2\n"})
    assert datasets.rows("d").rows == [{"a": 1, "b": 2, "c": None}, {"a": 3, "b": None, "c": None}]


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"a.csv": ROW, "b.csv": ROW, "c.jsonl": '{"a":1}\n'}, "csv"),
        ({"a.csv": ROW, "c.jsonl": '{"a":1}\n'}, "jsonl"),
        ({"a.tsv": ROW, "c.txt": "x\n"}, "tsv"),
        ({"a.json": "[]", "c.csv": ROW}, "json"),
        ({"a.png": flat_picture((4, 4), "PNG"), "metadata.csv": "file_name\n"}, "image"),
        ({"a.wav": wav(), "b.wav": wav(), "c.txt": "x"}, "audio"),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one),
)
def test_the_format_with_most_files_wins(datasets: Datasets, files: dict[str, bytes | str], kind: str) -> None:
    datasets.lay("d", files)
    assert datasets.rows("d").told["format"] == kind


CONFIGS = """
configs:
- config_name: second
  data_files:
  - split: test
    path: two/*.jsonl
  - split: train
    path: [one/a.jsonl, one/b.jsonl]
- config_name: first
  default: true
  data_dir: three
- config_name: text
  data_files: notes.txt
- config_name: listed
  data_files: [one/a.jsonl, one/b.jsonl]
- config_name: mapped
  data_files: {held: "two/[x-z].jsonl"}
dataset_info:
- config_name: second
  splits:
  - name: train
    num_bytes: 11
    num_examples: 12
"""
FILES = {
    "README.md": front_matter(CONFIGS),
    "one/a.jsonl": json_lines([{"a": 1}]),
    "one/b.jsonl": json_lines([{"a": 2}]),
    "two/x.jsonl": json_lines([{"a": 3}]),
    "three/dev.csv": ROW,
    "three/train.csv": ROW,
    "notes.txt": "hello\n",
}


def test_configs_of_the_readme_keep_their_order_and_each_has_its_own_format(datasets: Datasets) -> None:
    datasets.lay("d", FILES)
    assert datasets.listed("d") == {
        "second": ["test", "train"],
        "first": ["train", "validation"],
        "text": ["train"],
        "listed": ["train"],
        "mapped": ["held"],
    }
    assert datasets.rows("d", "second").column("a") == [1, 2]
    assert datasets.rows("d", "text").rows == [{"text": "hello"}]
    assert datasets.rows("d", "mapped", "held").column("a") == [3]
    assert [config["default"] for config in datasets.splits("d")["configs"]] == [False, True, False, False, False]


def test_declared_numbers_of_a_split_are_told(datasets: Datasets) -> None:
    datasets.lay("d", FILES)
    [test, train] = datasets.splits("d")["configs"][0]["splits"]
    assert test == {"split": "test", "num_bytes": None, "num_examples": None, "files": 1}
    assert train == {"split": "train", "num_bytes": 11, "num_examples": 12, "files": 2}


def test_a_config_that_cannot_be_listed_is_told_and_the_others_are_there(datasets: Datasets) -> None:
    readme = front_matter("configs:\n- config_name: bad\n  data_files: none.csv\n- config_name: good\n  data_files: a.csv")
    datasets.lay("d", {"README.md": readme, "a.csv": ROW})
    bad, good = datasets.splits("d")["configs"]
    assert (bad["splits"], bad["error"]["code"], bad["error"]["cause_class"]) == ([], "SplitsNamesError", "EmptyDatasetError")
    assert (good["splits"][0]["split"], good["error"]) == ("train", None)
    assert datasets.failure("d", "bad")["code"] == "SplitsNamesError"


@pytest.mark.parametrize("field", ['config_name: "a\\x07b"\n  data_files: a.csv', 'data_files: [{split: "a\\nb", path: a.csv}]'])
def test_control_characters_in_a_name_make_that_config_fail(datasets: Datasets, field: str) -> None:
    datasets.lay("d", {"README.md": front_matter(f"configs:\n- {field}\n- config_name: good\n  data_files: a.csv"), "a.csv": ROW})
    bad, good = datasets.splits("d")["configs"]
    assert bad["error"]["code"] == "SplitsNamesError"
    assert good["error"] is None


@pytest.mark.parametrize(
    ("files", "code", "cause"),
    [
        ({"README.md": front_matter("viewer: false"), "a.csv": ROW}, "DatasetNotSupported", "UnsupportedError"),
        ({"d.py": "print(1)"}, "DatasetNotSupported", "UnsupportedError"),
        ({"a.docx": "x", "README.md": "# x"}, "DatasetNotSupported", "UnsupportedError"),
        ({"README.md": "# x"}, "SplitsNamesError", "EmptyDatasetError"),
        ({"README.md": front_matter("a: [")}, "InfoError", "ParserError"),
        ({"README.md": front_matter("configs: 5"), "a.csv": ROW}, "InfoError", "ParserError"),
    ],
    ids=["viewer", "script", "unsupported", "empty", "broken readme", "no configs"],
)
def test_a_dataset_that_cannot_be_listed_says_why(datasets: Datasets, files: dict[str, str], code: str, cause: str) -> None:
    datasets.lay("d", files)
    failure = datasets.failure("d", task="splits")
    assert (failure["code"], failure["cause_class"]) == (code, cause)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: ]", "README.md, line 3: "),
        ("a: &x [1]\nb: *x", "README.md, line 3: aliases are not allowed"),
        ("a: " + "[" * 100, "README.md, line 2: values are nested more than 64 levels deep"),
        ("a: !!python/object/apply:os.system [id]", "README.md, line 2: could not determine a constructor"),
        ("- 1", "README.md, line 2: the front matter is not a mapping"),
        ("a: " + "x" * 1024 * 1024, "README.md: the front matter is longer than the limit of 1,048,576 bytes"),
    ],
    ids=["syntax", "alias", "deep", "tag", "list", "long"],
)
def test_a_front_matter_that_cannot_be_read_is_told_with_its_line(datasets: Datasets, text: str, message: str) -> None:
    datasets.lay("d", {"README.md": f"---\n{text}\n---\n", "a.csv": ROW})
    failure = datasets.failure("d", task="splits")
    assert failure["code"] == "InfoError"
    assert failure["cause_message"].startswith(message)


def test_hidden_files_are_read_only_where_the_readme_names_them(datasets: Datasets) -> None:
    datasets.lay("d", {".hidden/a.csv": "a\n7\n", "b.csv": ROW})
    assert datasets.rows("d").rows == [{"a": 1}]
    readme = front_matter(
        "configs:\n- config_name: shown\n  data_files: .hidden/*.csv\n- config_name: rest\n  data_files: '**/*.csv'"
    )
    datasets.lay("d", {"README.md": readme})
    assert datasets.rows("d", "shown").rows == [{"a": 7}]
    assert datasets.rows("d", "rest").rows == [{"a": 1}]


@pytest.mark.parametrize(
    ("pattern", "path", "is_match"),
    [
        ("*.csv", "a.csv", True),
        ("*.csv", "x/a.csv", False),
        ("**/*.csv", "a.csv", True),
        ("**/*.csv", "x/y/a.csv", True),
        ("x/**", "x/y/a.csv", True),
        ("x/**", "y/a.csv", False),
        ("?.csv", "a.csv", True),
        ("[ab].csv", "b.csv", True),
        ("[!ab].csv", "b.csv", False),
        ("*", ".a", False),
        (".*", ".a", True),
        ("*" + "a*" * 50 + "b", "a" * 200, False),
    ],
)
def test_globs_stay_within_a_part_of_a_path(pattern: str, path: str, is_match: bool) -> None:
    assert matches_pattern(path, pattern) is is_match
