"""The errors of preview: six keys, their codes and texts, and what of a cause is told to whom."""

from pathlib import Path

import pytest

from tests.fixtures.preview import Content, front_matter, lay
from tests.preview.asking import counts, get, lay_in, refused, rows
from tests.serving import Server, serving

NO_DATASET = "Not found. Maybe the cache is missing, or maybe the dataset does not exist."
NO_SPLIT = "Not found. Maybe the cache is missing, or maybe the split does not exist."
ROWS_NEEDED = "Parameters 'dataset', 'config' and 'split' are required"
PEOPLE = {"dataset": "people", "config": "default", "split": "train"}
NAMES = tuple(PEOPLE)
IMPOSSIBLE = ["../people", "a/b/c", "people/", "pe ople", ".hidden", "a..b", "x" * 200, "Ünî", "%00"]


@pytest.mark.parametrize("path", ["/splits", "/is-valid", "/size", "/parquet"])
@pytest.mark.parametrize("params", [{}, {"dataset": ""}])
def test_a_dataset_is_required(house: Server, path: str, params: dict[str, str]) -> None:
    body = refused(get(house, path, **params), 400, "MissingRequiredParameter", "Parameter 'dataset' is required")
    assert (body["cause_exception"], body["cause_message"]) == (body["exception"], body["message"])
    assert body["cause_traceback"] == []


@pytest.mark.parametrize("path", ["/rows", "/first-rows", "/v2/rows", "/statistics"])
@pytest.mark.parametrize(
    "names", [(), ("dataset",), ("config",), ("split",), ("dataset", "config"), ("dataset", "split"), ("config", "split")]
)
def test_all_three_names_of_a_split_are_required(house: Server, path: str, names: tuple[str, ...]) -> None:
    refused(get(house, path, **{name: PEOPLE[name] for name in names}), 400, "MissingRequiredParameter", ROWS_NEEDED)


@pytest.mark.parametrize(
    "name", ["nothing", "ann/nothing", "../people", "a/b/c", "people/", "pe ople", ".hidden", "a..b", "x" * 200, "Ünî", "%00"]
)
@pytest.mark.parametrize("path", ["/splits", "/rows"])
def test_a_name_that_nobody_knows_or_can_have_is_not_found(house: Server, path: str, name: str) -> None:
    refused(get(house, path, dataset=name, config="default", split="train"), 404, "DatasetNotFound", NO_DATASET)


@pytest.mark.parametrize("change", [{"config": "other"}, {"split": "other"}, {"split": "../train"}])
def test_a_config_or_split_that_is_not_listed_is_not_found(house: Server, change: dict[str, str]) -> None:
    for path in ("/rows", "/first-rows", "/v2/rows", "/statistics", "/size", "/parquet"):
        refused(get(house, path, **{**PEOPLE, **change}), 404, "SplitNotFound", NO_SPLIT)


def test_an_unknown_path_below_a_known_one_has_six_keys(house: Server) -> None:
    refused(get(house, "/rows/of/people"), 404, "NotFound")


def test_a_wrong_credential_is_refused_although_the_surface_is_open(house: Server) -> None:
    answer = get(house, "/rows", auth=("admin", "0" * 32), **PEOPLE)
    refused(answer, 401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


def test_a_surface_that_is_not_open_needs_a_credential(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_ANONYMOUS="none") as server:
        for path in ("/cache", "/valid", "/splits", "/queue-dump"):
            refused(get(server, path, dataset="people"), 401, "NoCredentials")
        assert get(server, "/cache", auth=server.auth).status_code == 200


def test_rows_that_cannot_be_read_are_an_error_with_its_cause(house: Server) -> None:
    answer = rows(house, "broken")
    body = refused(answer, 400, "RowsError", "Cannot get the first rows for the split.")
    assert body["cause_exception"] == "ParserError"
    assert body["cause_message"] == "line 3: expected 2 fields, saw 3"
    assert body["cause_traceback"] == []
    assert answer.headers["Cache-Control"] == "public, max-age=10"


def test_the_admin_sees_where_it_failed_without_paths_of_this_machine(house: Server) -> None:
    rows(house, "broken")
    answer = get(house, "/rows", auth=house.auth, dataset="broken", config="default", split="train")
    lines = refused(answer, 400, "RowsError")["cause_traceback"]
    assert lines
    assert all(line.endswith("\n") for line in lines)
    text = "".join(lines)
    assert "engine/tasks/preview" in text
    assert str(house.data_dir) not in text
    assert '"/' not in text
    assert answer.headers["Cache-Control"].startswith("private")


CONFIG = "configs:\n- config_name: a\n  data_files: ../*.csv"
NO_NAMES = "Cannot get the split names for the dataset."


def many_configs(number: int) -> str:
    return "configs:\n" + "".join(f"- {{config_name: c{i}, data_files: train.csv}}\n" for i in range(number))


def many_splits(number: int) -> str:
    return "configs:\n- data_files:\n" + "".join(f"  - {{split: s{i}, path: train.csv}}\n" for i in range(number))


def too_many(what: str, limit: int) -> str:
    return f"The dataset has {limit + 1:,} {what}, the limit is {limit:,}. Declare fewer or split it."


UNSUPPORTED = "this dataset is not supported for now."
# Name -> files, code and text.
FAULTY: dict[str, tuple[dict[str, Content], str, str]] = {
    "yaml": ({"README.md": front_matter("configs: [*x]")}, "InfoError", "Cannot get the metadata info for the config."),
    "none": ({"README.md": front_matter(CONFIG)}, "SplitsNamesError", NO_NAMES),
    "closed": ({"README.md": front_matter("viewer: false"), "train.csv": "a\n1\n"}, "DatasetNotSupported", UNSUPPORTED),
    "script": ({"README.md": "# s\n", "script.py": "print(1)\n"}, "DatasetNotSupported", UNSUPPORTED),
    "configs": ({"README.md": front_matter(many_configs(1001)), "train.csv": "a\n1\n"}, "TooBigContent", too_many("configs", 1000)),
    "splits": ({"README.md": front_matter(many_splits(3001)), "train.csv": "a\n1\n"}, "TooBigContent", too_many("splits", 3000)),
    "deep": ({"a/" * 16 + "train.csv": "a\n1\n", "README.md": "# d\n"}, "SplitsNamesError", NO_NAMES),
    "line": (
        {"train.jsonl": '{"a":1}\n{"a":"' + "x" * (16 << 20) + '"}\n'},
        "RowsError",
        "Cannot get the first rows for the split.",
    ),
    "wide": ({"train.csv": ",".join(f"c{i}" for i in range(1001)) + "\n"}, "TooBigContent", too_many("columns", 1000)),
}


@pytest.mark.parametrize("name", FAULTY)
def test_each_fault_of_a_dataset_has_its_code_and_text(house: Server, name: str) -> None:
    files, code, message = FAULTY[name]
    lay_in(house, f"faults/{name}", files)
    refused(rows(house, f"faults/{name}"), 400, code, message)


def test_older_clients_get_400_where_it_was_404_before(tmp_path: Path) -> None:
    with serving(
        tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0", SLUICE_PREVIEW_NOT_FOUND_STATUS="400"
    ) as server:
        lay_in(server, "one", {"train.csv": "a\n1\n"})
        refused(get(server, "/splits", dataset="nothing"), 400, "DatasetNotFound", NO_DATASET)
        refused(get(server, "/splits", dataset="one"), 400, "DatasetNotReady", "The dataset is being processed. Retry later.")
        refused(get(server, "/rows/x"), 404, "NotFound")


def test_tracebacks_for_all_or_for_nobody(tmp_path: Path) -> None:
    lay(tmp_path / "sets", "broken", {"train.csv": "a,b\n1,2\n1,2,3\n"})
    for wanted, auth_sees, all_see in (("all", True, True), ("none", False, False)):
        data_dir = tmp_path / wanted
        settings = {"SLUICE_PREVIEW_TRACEBACKS": wanted, "SLUICE_DATASETS_DIR": str(tmp_path / "sets")}
        with serving(data_dir, SLUICE_SCORE_REPLICAS="1", **settings) as server:
            open_to_all = rows(server, "broken").json()["cause_traceback"]
            of_admin = get(server, "/rows", auth=server.auth, dataset="broken", config="default", split="train").json()[
                "cause_traceback"
            ]
            assert (bool(of_admin), bool(open_to_all)) == (auth_sees, all_see)


def test_nothing_is_started_for_names_outside_the_catalogue_or_when_it_is_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_PREVIEW_ON_DEMAND="false") as server:
        lay_in(server, "there", {"train.csv": "a\n1\n"})
        for name in ("there", "not-there"):
            refused(get(server, "/splits", dataset=name), 404, "DatasetNotFound")
        assert counts(server, "/queue") == {"datasets": {}, "splits": {}}
