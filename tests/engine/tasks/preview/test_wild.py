"""Whatever is in a file: the same rows packed and plain, as an array and as lines, shown and prepared."""

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.tasks.preview.asking import Datasets, run

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CELLS = st.one_of(
    TEXTS, st.integers().map(str), st.floats().map(str), st.sampled_from(["", "NA", "true", "007", ".5", "1e5", 'a"b', "\r", "\n"])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "image", "img", "image_url", "\u00e9 x"]), VALUES, max_size=4), max_size=6
)
# Every example is written to the disk and waited for.
WILD = settings(max_examples=25, deadline=None)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
NAMES = [*("a.csv", "a.jsonl", "a.json", "a.parquet", "a.txt", "a.png", "a.wav"), *("a.csv.gz", "a.json.xz", "a.txt.bz2")]
OURS = ("KeyError", "IndexError", "AttributeError", "TypeError", "AssertionError")


def with_datasets(work: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work(Datasets(Path(folder)))


def written(rows: list[list[str]], quoting: Any) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=quoting).writerows([["a", "b"], *rows])
    return out.getvalue()


@WILD
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=8), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
)
def test_csv_of_any_cells_is_shown_as_it_is_prepared_and_packed_as_plain(rows: list[list[str]], quoting: Any) -> None:
    def check(datasets: Datasets) -> None:
        text = written(rows, quoting)
        datasets.lay("plain", {"a.csv": text})
        datasets.lay("packed", {"a.csv.gz": gzip.compress(text.encode())})
        shown = datasets.rows("plain")
        assert datasets.rows("packed").rows == shown.rows
        assert datasets.prepare("plain").rows() == shown.rows
        assert len(shown.rows) == len(rows)

    with_datasets(check)


@WILD
@given(text=st.text(st.sampled_from('a,1"\n\r;\t.\u20ac '), max_size=40))
def test_any_text_as_csv_is_prepared_as_it_is_shown(text: str) -> None:
    def check(datasets: Datasets) -> None:
        datasets.lay("d", {"a.csv": text})
        told, bodies = ask(datasets, "rows")
        prepared, _ = ask(datasets, "prepare")
        assert told.get("failure", {}).get("cause_message") == prepared.get("failure", {}).get("cause_message")
        if "failure" not in told:
            assert datasets.prepare("d").rows() == [one["row"] for one in json.loads(bytes(bodies[0]))["rows"]]

    with_datasets(check)


def ask(datasets: Datasets, task: str) -> Any:
    return run(task, **datasets.asked("d", "default", "train"), staging=str(datasets.new_staging()))


@WILD
@given(rows=ROWS)
@example(rows=[{"a": [2**63]}])
@example(rows=[{"a": {"b": [1, 2**64]}}])
def test_lines_and_an_array_of_any_objects_show_the_same_and_are_prepared_as_they_are_shown(rows: list[dict[str, Any]]) -> None:
    def check(datasets: Datasets) -> None:
        datasets.lay("lines", {"a.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
        datasets.lay("array", {"a.json": json.dumps(rows, indent=1, ensure_ascii=False)})
        shown, other = datasets.rows("lines"), datasets.rows("array")
        assert (other.types, other.rows) == (
            shown.types,
            [json.loads(json.dumps(row).replace("assets/lines", "assets/array")) for row in shown.rows],
        )
        page = datasets.prepare("lines").page()[1]
        # Objects without fields are rows that are shown, but no table can have them.
        assert page["rows"] == (shown.modern["rows"] if shown.types else [])
        assert len(shown.rows) == len(rows)

    with_datasets(check)


@WILD
@given(
    raw=st.binary(max_size=60),
    name=st.sampled_from(
        ["a.csv", "a.jsonl", "a.json", "a.parquet", "a.txt", "a.png", "a.wav", "a.csv.gz", "a.json.xz", "a.txt.bz2"]
    ),
)
def test_any_bytes_are_rows_or_a_failure_with_a_reason(raw: bytes, name: str) -> None:
    def check(datasets: Datasets) -> None:
        datasets.lay("d", {name: raw})
        for task in ("splits", "rows", "prepare"):
            told, _ = ask(datasets, task)
            if "failure" in told:
                assert told["failure"]["cause_message"]
                assert told["failure"]["cause_class"] not in (
                    "KeyError",
                    "IndexError",
                    "AttributeError",
                    "TypeError",
                    "AssertionError",
                )

    with_datasets(check)
