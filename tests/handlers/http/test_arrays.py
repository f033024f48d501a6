"""Bodies that are one array: however the bytes arrive, each element is a line, and any other body stays as it is."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.replicas.lines import LineSpan
from handlers.http.arrays import BodyCutter
from handlers.http.lines import BOM, LineCutter
from tests.handlers.http.pieces import cuts, pieces_of

LIMIT = 10_000

texts = st.text(alphabet='ab"\\[]{},:\n\té', max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
elements = st.lists(st.dictionaries(texts, values, max_size=3), max_size=6)
bodies = st.lists(
    st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"\n", b" ", b'{"a":1}', BOM, b"a", b"\r", b"\xff"]), max_size=25
).map(b"".join)


def cut(pieces: Any) -> list[LineSpan]:
    cutter = BodyCutter(LIMIT)
    return [span for piece in pieces for span in cutter.feed(piece)] + list(cutter.finish())


def lines_of(spans: list[LineSpan]) -> list[tuple[int, bytes | str]]:
    """(number, bytes or code) of every line."""
    found: list[tuple[int, bytes | str]] = []
    for span in spans:
        if span.refusal:
            found.append((span.first_line, span.refusal))
            continue
        whole = span.data[span.start : span.end].split(b"\n")[:-1]
        assert len(whole) == span.num_lines
        found += [(span.first_line + i, line) for i, line in enumerate(whole)]
    return found


def objects(spans: list[LineSpan]) -> list[Any]:
    return [json.loads(line) for _, line in lines_of(spans) if line.strip()]


@given(elements, st.sampled_from([None, 1]), st.sampled_from([b"", BOM, b" \n\t"]), st.sampled_from([b"", b"\n", b" \r\n "]), cuts)
@example([{"a\\": '"'}], None, b"", b"", [7, 8, 9])
def test_each_element_is_a_line(records: list[Any], indent: int | None, before: bytes, after: bytes, positions: list[int]) -> None:
    body = before + json.dumps(records, indent=indent, ensure_ascii=False).encode() + after
    assert objects(cut(pieces_of(body, positions))) == records


@given(elements, elements, cuts)
def test_what_follows_an_array_are_lines(records: list[Any], more: list[Any], positions: list[int]) -> None:
    body = json.dumps(records).encode() + b"\n" + b"".join(json.dumps(one).encode() + b"\n" for one in more)
    assert objects(cut(pieces_of(body, positions))) == records + more


@given(bodies, cuts)
def test_any_bytes_in_any_pieces_give_the_same_lines(body: bytes, positions: list[int]) -> None:
    assert lines_of(cut(pieces_of(body, positions))) == lines_of(cut([body]))


@given(bodies.filter(lambda body: b"[" not in body), cuts)
def test_a_body_without_an_array_is_cut_as_lines(body: bytes, positions: list[int]) -> None:
    plain = LineCutter(LIMIT)
    expected = [span for span in plain.feed(body)] + list(plain.finish())
    assert lines_of(cut(pieces_of(body, positions))) == lines_of(expected)


@pytest.mark.parametrize("body", [b"[1,2]\n", b"[[{}]]\n", b'["a"]\n', b"[\n", b"["])
def test_an_array_of_no_objects_is_a_line(body: bytes) -> None:
    assert lines_of(cut([body])) == [(1, body.rstrip(b"\n"))]


@pytest.mark.parametrize("body", [b'[{"a":1}', b'[{"a":1},', b'[{"a":1},{"b', b'[{"a":"]'])
def test_an_array_that_does_not_end_gets_an_error_after_its_elements(body: bytes) -> None:
    lines = lines_of(cut([body]))
    assert lines[-1][1] == "array_not_closed"
    assert [number for number, _ in lines] == list(range(1, len(lines) + 1))


def test_an_element_over_the_limit_is_thrown_away_as_it_comes() -> None:
    body = b'[{"a":1},{"a":"%b"},{"a":3}]' % (b"x" * 5 * LIMIT)
    assert lines_of(cut(pieces_of(body, range(0, len(body), 100)))) == [(1, b'{"a":1}'), (2, "line_too_long"), (3, b'{"a":3}')]
