"""Cutting of bodies: however the bytes arrive, the lines, their numbers and their ends are the same."""

import time
from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st

from engine.replicas.lines import LineSpan
from handlers.http.lines import BOM, LineCutter
from tests.handlers.http.pieces import cuts, pieces_of

LIMIT = 12
# A line as the cutter gives it: (number, bytes without the newline), or (number, None) when it was thrown away.
Line = tuple[int, bytes | None]

bodies = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"a", b"bc", b'{"x":1}', b" ", b"\t", b"y" * LIMIT, b"z" * (LIMIT + 1), b"\r", b"\xef", BOM, b"\xff"]
    ),
    max_size=40,
).map(b"".join)


def cut(pieces: Iterable[bytes], limit_bytes: int = LIMIT) -> list[LineSpan]:
    cutter = LineCutter(limit_bytes)
    return [span for piece in pieces for span in cutter.feed(piece)] + list(cutter.finish())


def lines_of(spans: Iterable[LineSpan]) -> list[Line]:
    lines: list[Line] = []
    for span in spans:
        if span.refusal:
            lines.append((span.first_line, None))
            continue
        assert span.data[span.end - 1 : span.end] == b"\n"
        whole = span.data[span.start : span.end].split(b"\n")[:-1]
        assert len(whole) == span.num_lines
        lines += [(span.first_line + i, line) for i, line in enumerate(whole)]
    return lines


def plain_split(body: bytes, limit_bytes: int = LIMIT) -> list[Line]:
    """What the cutter must give, computed in the simplest way."""
    lines = body.removeprefix(BOM).split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [(i, line if len(line.removesuffix(b"\r")) <= limit_bytes else None) for i, line in enumerate(lines, 1)]


@given(bodies, cuts)
@example(BOM + b"a\n", [1, 2])
@example(b"\xef\xbb", [1])
@example(b"z" * 13 + b"\n" + b"a", [3, 13, 14])
@example(b"y" * 12 + b"\r\n" + b"y" * 12 + b"\rx\n" + b"y" * 12 + b"\r", [12, 13, 14, 27, 28])
def test_any_body_in_any_pieces_gives_the_lines_of_a_plain_split(body: bytes, positions: list[int]) -> None:
    assert lines_of(cut(pieces_of(body, positions))) == plain_split(body)


@given(bodies)
def test_one_byte_at_a_time_gives_the_lines_of_a_plain_split(body: bytes) -> None:
    assert lines_of(cut(body[i : i + 1] for i in range(len(body)))) == plain_split(body)


@given(bodies, cuts, st.integers(3, 30))
def test_the_limit_holds_whatever_it_is(body: bytes, positions: list[int], limit_bytes: int) -> None:
    assert lines_of(cut(pieces_of(body, positions), limit_bytes)) == plain_split(body, limit_bytes)


def test_an_empty_body_has_no_lines() -> None:
    assert cut([]) == []
    assert cut([b"", b""]) == []
    assert lines_of(cut([BOM])) == []


def test_a_byte_order_mark_counts_only_at_the_very_start() -> None:
    assert lines_of(cut([BOM[:1], BOM[1:2], BOM[2:] + b"a\n" + BOM + b"b\n"])) == [(1, b"a"), (2, BOM + b"b")]


def test_what_only_began_like_a_byte_order_mark_is_kept() -> None:
    assert lines_of(cut([b"\xef", b"\xbb", b"x\n"])) == [(1, b"\xef\xbbx")]


def test_a_line_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert lines_of(cut([b"a" * LIMIT + b"\n" + b"b" * (LIMIT + 1) + b"\nc\n"])) == [(1, b"a" * LIMIT), (2, None), (3, b"c")]


def test_the_end_of_a_line_does_not_count_whether_it_is_lf_or_crlf() -> None:
    line = b"a" * LIMIT + b"\r"
    assert lines_of(cut([line + b"\n" + b"b" + line + b"\nc\n" + line])) == [(1, line), (2, None), (3, b"c"), (4, line)]


def test_a_last_line_over_the_limit_without_its_newline_is_refused_once() -> None:
    assert lines_of(cut([b"a\n", b"b" * 10, b"b" * 10, b"b" * 10])) == [(1, b"a"), (2, None)]


def test_a_body_that_is_one_endless_line_is_one_refusal_in_small_memory() -> None:
    cutter = LineCutter(LIMIT)
    spans = [span for _ in range(10_000) for span in cutter.feed(b"x" * 1000)]
    assert lines_of(spans) == [(1, None)]
    assert len(cutter._tail) == 0
    assert lines_of(cutter.feed(b"x\nnext\n")) == [(2, b"next")]
    assert list(cutter.finish()) == []


def test_good_lines_before_and_after_a_refused_one_travel_in_whole_spans() -> None:
    spans = cut([b"a\nb\n" + b"x" * 100 + b"\nc\nd\n"])
    assert [(span.first_line, span.num_lines, span.refusal) for span in spans] == [
        (1, 2, None),
        (3, 1, "line_too_long"),
        (4, 2, None),
    ]


def test_blank_lines_and_carriage_returns_are_left_for_the_replica_but_counted() -> None:
    assert lines_of(cut([b"\n \r\n\ta\r", b"\n\n"])) == [(1, b""), (2, b" \r"), (3, b"\ta\r"), (4, b"")]


def test_finish_twice_gives_the_last_line_once() -> None:
    cutter = LineCutter(LIMIT)
    assert list(cutter.feed(b"a")) == []
    assert lines_of(cutter.finish()) == [(1, b"a")]
    assert list(cutter.finish()) == []


def seconds_to_cut(num_bytes: int) -> float:
    """Seconds to cut one line of `num_bytes` that comes byte by byte."""
    cutter = LineCutter(1 << 30)
    started = time.thread_time()
    for _ in range(num_bytes):
        list(cutter.feed(b"x"))
    return time.thread_time() - started


def test_one_byte_at_a_time_is_not_quadratic() -> None:
    seconds_to_cut(1000)
    small = min(seconds_to_cut(10_000) for _ in range(3))
    large = min(seconds_to_cut(80_000) for _ in range(2))
    assert large < 30 * small  # the factor is 8 if the time is linear, 64 if it is quadratic


def test_a_piece_of_many_short_lines_is_searched_as_a_whole() -> None:
    piece = b"{}\n" * 200_000
    started = time.thread_time()
    spans = cut([piece], 1 << 20)
    assert time.thread_time() - started < 0.5
    assert [span.num_lines for span in spans] == [200_000]
