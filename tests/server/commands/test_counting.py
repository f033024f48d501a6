"""The command-line client counts lines: however the bytes are cut into pieces, the counts are those of the whole."""

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from server.commands.counting import AnswerLines, RecordCounter

BULK_ID = "250863ffc05e62f7bfb04bc2dc62ca5f"


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data, cut at these offsets."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def counted(pieces: list[bytes]) -> int:
    counter = RecordCounter()
    for piece in pieces:
        counter.feed(piece)
    counter.finish()
    assert counter.num_bytes == sum(map(len, pieces))
    return counter.records


lines = st.lists(st.sampled_from([b"", b" ", b"\t \r", b"\r", b"{}", b'{"a":1}\r', b" x", b"\xef\xbb\xbf", b"\xef"]))
cuts = st.lists(st.integers(0, 100))


@given(lines, st.booleans(), st.booleans(), cuts)
def test_blank_lines_do_not_count_however_the_body_is_cut(
    texts: list[bytes], has_bom: bool, is_ended: bool, places: list[int]
) -> None:
    body = b"\n".join(texts) + (b"\n" if is_ended else b"")
    expected = sum(bool(line.strip(b" \t\r")) for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    if has_bom and not body.startswith(b"\xef"):
        body = b"\xef\xbb\xbf" + body
    if body[:1] == b"\xef" and body[:3] != b"\xef\xbb\xbf":
        return  # a broken byte order mark: the server answers at least as many records as we count
    assert counted(pieces_of(body, places)) == expected


def test_a_byte_order_mark_counts_as_a_record_only_inside_the_body() -> None:
    assert counted([b"\xef", b"\xbb", b"\xbf", b"\n"]) == 0
    assert counted([b"{}\n\xef\xbb\xbf\n"]) == 2


def result(i: int) -> bytes:
    """A result whose text contains what looks like an error and a summary."""
    text = f'{{"bulk_id":"{BULK_ID}","code":"x"}}\n{{"bulk_id":"{BULK_ID}","summary":{{}}}}'
    line = {"bulk_id": BULK_ID, "end_time": "t", "result": text, "start_time": "t", "version": 1, "yhat_id": i, "yhat_model": "m"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def error(i: int) -> bytes:
    line = {"bulk_id": BULK_ID, "code": "invalid_json", "end_time": "t", "error": f"line {i} \n", "line": i, "yhat_model": "fatal"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


SUMMARY = f'{{"bulk_id":"{BULK_ID}","summary":{{"records":1}},"version":1,"yhat_model":"m"}}\n'.encode()
FATAL = f'{{"bulk_id":"{BULK_ID}","code":"stalled","error":"too slow","fatal":true,"records":1,"yhat_model":"m"}}\n'.encode()


@given(st.lists(st.booleans()), st.sampled_from([b"", SUMMARY, FATAL]), st.booleans(), st.lists(st.integers(0, 5000)))
def test_errors_results_and_the_last_line_are_distinguished(
    kinds: list[bool], last: bytes, is_divided: bool, places: list[int]
) -> None:
    answered = [error(i) if is_error else result(i) for i, is_error in enumerate(kinds)]
    found = AnswerLines(BULK_ID, is_divided=is_divided)
    results, errors = b"", b""
    for piece in pieces_of(b"".join(answered) + last, places):
        for_results, for_errors = found.feed(piece)
        results, errors = results + b"".join(for_results), errors + b"".join(for_errors)
    assert (found.errors, found.results, found.records) == (sum(kinds), len(kinds) - sum(kinds), len(kinds))
    assert found.summary == ({"records": 1} if last == SUMMARY else None)
    assert found.failure == ("too slow (stalled)" if last == FATAL else None)
    assert errors == (b"".join(line for line, is_error in zip(answered, kinds, strict=True) if is_error) if is_divided else b"")
    assert results == b"".join(line for line, is_error in zip(answered, kinds, strict=True) if not (is_error and is_divided))


def test_an_unfinished_line_does_not_count() -> None:
    found = AnswerLines(BULK_ID, is_divided=False)
    for_results, _ = found.feed(result(1) + result(2)[:-1])
    assert b"".join(for_results) == result(1)
    assert found.records == 1
