"""Lines of an answer become the same csv whether a block is cut by its looks or read as JSON, wherever the blocks end."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks import codec
from engine.tasks.tables import results
from engine.tasks.tables.csv_table import looks_like
from engine.tasks.tables.results import write_table
from engine.tasks.tables.rows import in_order, row_of, text_of

numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text('ab,;"\\\n\r é\x01', max_size=6)
plain = numbers | texts | st.booleans() | st.lists(numbers, max_size=3)
values = plain | st.none() | st.lists(texts, max_size=2) | st.dictionaries(st.sampled_from(["s", "t"]), plain, max_size=2)
objects = st.dictionaries(st.sampled_from(["label", "p", "code", "yhat_id", 'a"b']), values, max_size=3)
answers = st.one_of(
    objects.map(lambda value: {"result": value}),
    values.map(lambda value: {"result": value}),
    st.just({"code": "missing_field", "error": "field 'x' is missing, \"really\""}),
)
streams = st.lists(answers, min_size=1, max_size=12) | st.tuples(answers, st.integers(1, 30)).map(lambda pair: [pair[0]] * pair[1])


def line(answer: dict[str, Any], yhat_id: Any) -> bytes:
    """A line as the server writes it, with its keys in alphabetical order."""
    around = {"bulk_id": "0f", "end_time": "e", "start_time": "s", "version": 1, "yhat_id": yhat_id, "yhat_model": "m"}
    return codec.dumps(dict(sorted((around | answer).items()))) + b"\n"


def table(lines: list[bytes], folder: Path) -> list[list[str]]:
    target = io.BytesIO()
    write_table(io.BytesIO(b"".join(lines)), target, "csv", str(folder), lambda: None)
    return [*csv.reader(io.StringIO(target.getvalue().decode(), newline=""))]


@given(streams, st.sampled_from([1, 300, 1024 * 1024]), st.booleans())
def test_every_line_is_a_row_with_the_cells_of_its_json(
    tmp_path_factory: pytest.TempPathFactory, stream: list[dict[str, Any]], block_bytes: int, has_numbers: bool
) -> None:
    rows = [row_of({"yhat_id": i if has_numbers else f"n{i}", **answer}) for i, answer in enumerate(stream)]
    names = in_order([*dict.fromkeys(name for row in rows for name in row)])
    expected = [["" if row.get(name) is None else text_of(row[name]) for name in names] for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "BLOCK_BYTES", block_bytes)
        lines = [line(answer, row["yhat_id"]) for answer, row in zip(stream, rows, strict=True)]
        found = table(lines, tmp_path_factory.getbasetemp())
    assert found == [names, *expected]


def test_the_lines_of_a_classifier_are_cut_by_their_looks() -> None:
    result = {"label": "setosa", "p": {"x": 0.5, "y": 1e-7}, "all": [0.25, 9e-8], "is_sure": True}
    looks = looks_like(line({"result": result}, 7), ["yhat_id", "label", "p.x", "p.y", "all", "is_sure"])
    assert looks is not None
    cells = looks.cells(line({"result": result | {"label": "é, ü"}}, 8))
    assert cells is not None
    assert [*cells] == [("8", "é, ü", "0.5", "1e-7", "[0.25,9e-8]", "true")]
    assert looks.cells(line({"result": result | {"label": 'a"b'}}, 8)) is None
    assert looks.cells(line({"code": "x", "error": "y"}, 8)) is None
