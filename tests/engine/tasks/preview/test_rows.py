"""Which rows are shown, and how much of them: sizes are bytes of the whole answer."""

import gzip
import hashlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.preview.answers import CUT_BYTES, Rows, ShownRow, modern_frame, shown_cell
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import json_lines


def lay_texts(datasets: Datasets, count: int, length: int) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"text": "x" * length} for _ in range(count)])})


def test_some_short_rows_are_shown_in_an_answer_that_is_no_larger_than_it_may_be(datasets: Datasets) -> None:
    lay_texts(datasets, 10, 50)
    shown = datasets.rows("d", limits={"rows_max_bytes": 400})
    assert 1 <= len(shown.rows) < 10
    assert len(shown.bodies[0]) <= 400
    assert shown.told["truncated"] == ["rows"]
    assert "truncated_cells" not in shown.old["rows"][0]
    longer = datasets.rows("d", limits={"rows_max_bytes": len(shown.bodies[0])})
    assert longer.bodies[0] == shown.bodies[0]


def test_of_long_rows_one_is_shown_cut_and_named(datasets: Datasets) -> None:
    lay_texts(datasets, 3, 1000)
    shown = datasets.rows("d", limits={"rows_max_bytes": 400})
    assert shown.rows == [{"text": "x" * 100}]
    assert shown.old["rows"][0]["truncated_cells"] == ["text"]
    assert shown.told["truncated"] == ["cells", "rows"]


def test_ten_modern_rows_are_kept_and_cut_from_the_last_one_back(datasets: Datasets) -> None:
    lay_texts(datasets, 12, 1000)
    modern = datasets.rows("d", limits={"rows_max_bytes": 5000}).modern
    cut = [bool(row["truncated_cells"]) for row in modern["rows"]]
    assert len(cut) == 10
    assert cut == sorted(cut)
    assert (cut[0], cut[-1], modern["truncated"]) == (False, True, True)


def test_a_cell_is_cut_on_the_border_of_a_character_and_other_values_as_their_json(datasets: Datasets) -> None:
    rows = [{"t": "\u20ac" * 200, "l": list(range(200)), "n": 1, "s": "y" * 98}]
    datasets.lay("d", {"a.jsonl": json_lines(rows)})
    shown = datasets.rows("d", limits={"rows_max_bytes": 10})
    assert shown.rows == [{"t": "\u20ac" * 33, "l": json.dumps(rows[0]["l"], separators=(",", ":"))[:100], "n": 1, "s": "y" * 98}]
    assert shown.old["rows"][0]["truncated_cells"] == ["t", "l"]


def test_a_cell_of_ten_megabytes_is_cut(datasets: Datasets) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"a": "x" * 10_000_000, "b": 1}, {"a": "y", "b": 2}])})
    shown = datasets.rows("d")
    assert shown.rows[0] == {"a": "x" * 100, "b": 1}
    assert len(shown.bodies[0]) < 1000


def test_at_most_a_hundred_rows_are_shown_and_that_is_no_truncation(datasets: Datasets) -> None:
    lay_texts(datasets, 130, 5)
    shown = datasets.rows("d")
    assert (len(shown.rows), shown.told["truncated"], shown.modern["truncated"]) == (100, [], True)
    assert len(datasets.rows("d", limits={"rows_max_number": 3}).rows) == 3


def test_keys_come_in_their_order(datasets: Datasets) -> None:
    datasets.lay("org/d", {"a.jsonl": '{"z": 1, "a": "x"}\n'})
    shown = datasets.rows("org/d")
    where = '"dataset":"org/d","config":"default","split":"train"'
    assert shown.bodies[0].decode() == (
        f'{{"columns":[{{{where},"column_idx":0,"column":{{"name":"z","type":"INT"}}}},'
        f'{{{where},"column_idx":1,"column":{{"name":"a","type":"STRING"}}}}],'
        f'"rows":[{{{where},"row_idx":0,"row":{{"z":1,"a":"x"}}}}]}}'
    )
    assert [*shown.modern] == ["dataset", "config", "split", "features", "rows", "truncated"]


def test_bodies_have_their_etags_and_their_gzip(datasets: Datasets) -> None:
    lay_texts(datasets, 50, 5)
    shown = datasets.rows("d")
    assert [len(body) for body in shown.bodies] == shown.told["sizes"]
    assert gzip.decompress(shown.bodies[1]) == shown.bodies[0]
    assert gzip.decompress(shown.bodies[3]) == shown.bodies[2]
    assert shown.told["etags"] == [hashlib.blake2b(shown.bodies[i], digest_size=8).hexdigest() for i in (0, 2)]
    datasets.lay("small", {"a.csv": "a\n1\n"})
    assert datasets.rows("small").told["sizes"][1] == 0


def test_places_in_a_modern_body_are_told(datasets: Datasets) -> None:
    lay_texts(datasets, 3, 5)
    shown = datasets.rows("d")
    body, about = shown.bodies[2], shown.told["first_rows"]
    start, end = about["features"]
    assert json.loads(body[start:end]) == shown.modern["features"]
    for row, (start, end, cell) in zip(shown.modern["rows"], about["rows"], strict=True):
        assert json.loads(body[start:end]) == row
        assert json.loads(body[start:cell] + b',"more":1' + body[cell:end])["row"] == {**row["row"], "more": 1}


def test_files_numbers_and_footers_are_told(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a\n1\n", "b.csv": "a\n2\n"})
    assert datasets.rows("d").told["numbers"] == {"num_bytes": 8, "num_examples": None, "num_columns": 1}


def test_a_split_that_is_gone_is_told(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a\n1\n"})
    assert datasets.failure("d", split="test")["code"] == "SplitNotFound"
    assert datasets.failure("d", config="other")["code"] == "SplitNotFound"


CELLS = st.one_of(st.text(max_size=300), st.integers(), st.lists(st.integers(), max_size=60))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=8),
    max_bytes=st.integers(20, 1500),
    min_rows=st.integers(1, 3),
)
def test_the_size_that_is_counted_is_the_size_of_the_answer(rows: list[list[Any]], max_bytes: int, min_rows: int) -> None:
    made = Rows(["a", "b"], modern_frame, 10, max_bytes, min_rows)
    for index, cells in enumerate(rows):
        made.add(ShownRow(index, [shown_cell(one, may_cut=True, max_bytes=max_bytes) for one in cells]))
    made.finish()
    size = 10 + len(b",".join(item for item, _ in made.items()))
    assert size == made._size
    assert len(made.rows) >= min(min_rows, len(rows))
    if size > max_bytes:  # then all is cut that can be, and no row is there that need not be
        assert len(made.rows) <= min_rows
        assert all(one.size <= CUT_BYTES * 7 for row in made.rows for one in row.cells)
    for row in made.rows:
        for i, one in enumerate(row.cells):
            assert i in row.named or json.loads(one.text or b"0") == rows[row.index][i]
