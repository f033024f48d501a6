"""Every kind of bad input (streaming.md 4) gets one error line in its place, and all its neighbours are scored."""

import json
from typing import Any

import pytest

from tests.clients import Curled, bulk, curl, ndjson
from tests.serving import Server, serving

HELLO = "brandon/HelloWorld"
IRIS = "sluice/iris"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
MIB = 1024 * 1024

# Lines that are not a record for any model: name, line, code.
BAD_LINES = {
    "array": (b"[1,2]", "not_an_object"),
    "empty array": (b"[]", "not_an_object"),
    "array of objects": (b'[{"name":"x"}]', "not_an_object"),
    "number": (b"3", "not_an_object"),
    "string": (b'"x"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "true": (b"true", "not_an_object"),
    "not a number": (b"NaN", "not_an_object"),
    "bad UTF-8 in a value": (b'{"name":"\xff"}', "invalid_json"),
    "bad UTF-8 in a key": (b'{"name":"a","\xc3\x28":1}', "invalid_json"),
    "UTF-8 cut short": (b'{"name":"\xe6\xbc"}', "invalid_json"),
    "UTF-16": '{"name":"a"}'.encode("utf-16-le"),
    "single quotes": (b"{'name':'x'}", "invalid_json"),
    "trailing comma": (b'{"name":"x",}', "invalid_json"),
    "words": (b"hello world", "invalid_json"),
    "brace open": (b"{", "invalid_json"),
    "brace close": (b"}", "invalid_json"),
    "object cut short": (b'{"name":"x"', "invalid_json"),
    "string not closed": (b'{"name":"x}', "invalid_json"),
    "garbage after the object": (b'{"name":"x"} hello', "invalid_json"),
    "comma after the object": (b'{"name":"x"},', "invalid_json"),
    "comma before the object": (b',{"name":"x"}', "invalid_json"),
    "comma between objects": (b'{"name":"x"},{"name":"y"}', "invalid_json"),
    "no value": (b'{"name":}', "invalid_json"),
    "no colon": (b'{"name" "x"}', "invalid_json"),
    "key without quotes": (b'{name:"x"}', "invalid_json"),
    "comment": (b'{"name":"x"} // note', "invalid_json"),
    "zero bytes": (b"\x00\x00\x00", "invalid_json"),
    "bad escape": (b'{"name":"\\x"}', "invalid_json"),
    "open brackets": (b"[" * 100, "invalid_json"),
    "nesting deeper than any parser": (b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
    "BOM in the middle of the file": (b'\xef\xbb\xbf{"name":"x"}', "invalid_json"),
    "field missing": (b'{"nam":"x"}', "missing_field"),
    "empty object": (b"{}", "missing_field"),
    "field null": (b'{"name":null}', "missing_field"),
    "field a number": (b'{"name":3}', "wrong_type"),
    "field a float": (b'{"name":3.5}', "wrong_type"),
    "field a boolean": (b'{"name":true}', "wrong_type"),
    "field a list": (b'{"name":["x"]}', "wrong_type"),
    "field an object": (b'{"name":{"x":1}}', "wrong_type"),
    "id a boolean": (b'{"name":"x","yhat_id":true}', "invalid_yhat_id"),
    "too long": (b'{"name":"' + b"x" * 2 * MIB + b'"}', "line_too_long"),
}
BAD_LINES["UTF-16"] = (BAD_LINES["UTF-16"], "invalid_json")  # type: ignore[assignment]


@pytest.mark.parametrize("kind", BAD_LINES)
def test_one_bad_line_in_10_000_is_one_error_with_its_number(server: Server, kind: str) -> None:
    """Acceptance 7, 8, 26."""
    bad, code = BAD_LINES[kind]
    texts = [b'{"name":"n%d","yhat_id":%d}' % (i, i) for i in range(10_000)]
    texts[6_543] = bad
    lines = _checked(bulk(server, HELLO, b"\n".join(texts) + b"\n"))
    errors = [line for line in lines if "code" in line]
    assert [(line["code"], line["line"]) for line in errors] == [(code, 6_544)]
    found = {line["yhat_id"]: line["result"]["greeting"] for line in lines if "result" in line}
    assert found == {i: f"Hello n{i}" for i in range(10_000) if i != 6_543}


def test_all_kinds_of_bad_lines_together_each_keep_their_number(server: Server) -> None:
    """Acceptance 7; every second line is good."""
    texts = [text for bad, _ in BAD_LINES.values() for text in (bad, b'{"name":"good"}')]
    lines = _checked(bulk(server, HELLO, b"\n".join(texts), "&ordered=true"))
    assert [line.get("code") for line in lines] == [code for _, each in BAD_LINES.values() for code in (each, None)]
    assert [line["line"] for line in lines if "line" in line] == [2 * i + 1 for i in range(len(BAD_LINES))]


def _checked(done: Curled) -> list[dict[str, Any]]:
    """The lines of an answer that ended cleanly. No error text may show a path or a traceback."""
    assert (done.code, done.status) == (0, 200)
    for line in done.lines:
        assert "Traceback" not in line.get("error", "")
        assert "/" not in line.get("error", "").replace("--data-binary", "")
        assert "\n" not in line.get("error", "")
        assert len(line.get("error", "")) < 400
    return done.lines


def test_the_text_of_bad_json_names_the_line(server: Server) -> None:
    lines = bulk(server, HELLO, b'{"name":"a"}\n\n{bad\n[1]\n', "&ordered=true").lines
    assert lines[1]["error"].startswith("line 3 is not JSON")
    assert lines[2]["error"] == "line 4 is not a JSON object"


# Floats (acceptance 27)

BAD_FLOATS = {
    "string": ('"5.1"', "wrong_type"),
    "empty string": ('""', "wrong_type"),
    "true": ("true", "wrong_type"),
    "false": ("false", "wrong_type"),
    "list": ("[5.1]", "wrong_type"),
    "object": ("{}", "wrong_type"),
    "null": ("null", "missing_field"),
    "1e300": ("1e300", "out_of_range"),
    "-1e39": ("-1e39", "out_of_range"),
    "an integer of 400 digits": ("1" + "0" * 400, "out_of_range"),
    "an integer of 60 digits": ("1" + "0" * 60, "out_of_range"),
}


@pytest.mark.parametrize("kind", BAD_FLOATS)
def test_what_is_no_float32_is_refused_by_code_and_not_converted(server: Server, kind: str) -> None:
    """Acceptance 27."""
    text, code = BAD_FLOATS[kind]
    good = json.dumps(FLOWER)
    bad = good.replace("1.4", text)
    lines = bulk(server, IRIS, f"{good}\n{bad}\n{good}\n".encode(), "&ordered=true").lines
    assert [line.get("code") for line in lines] == [None, code, None]
    assert "'petal_length'" in lines[1]["error"]
    assert lines[0]["result"] == lines[2]["result"]


@pytest.mark.parametrize("text", ["0", "-0.0", "1", "1e-300", "3.4e38", "1E1", "9007199254740993", "NaN", "Infinity", "-Infinity"])
def test_every_json_number_that_fits_is_a_float(server: Server, text: str) -> None:
    body = json.dumps(FLOWER).replace("1.4", text).encode() + b"\n"
    [line] = bulk(server, IRIS, body).lines
    assert "result" in line, line
    json.dumps(line, allow_nan=False)


def test_nan_literals_give_answers_that_are_json(server: Server) -> None:
    """streaming.md 2.6: NaN and infinities become null."""
    done = bulk(server, IRIS, json.dumps(FLOWER).replace("1.4", "NaN").encode())
    assert b"NaN" not in done.body
    assert b"Infinity" not in done.body


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("small", "1.7", "wrong_type"),
        ("small", "1.0", None),
        ("small", "128", "out_of_range"),
        ("small", "-129", "out_of_range"),
        ("small", "1" + "0" * 30, "out_of_range"),
        ("small", "true", "wrong_type"),
        ("small", '"1"', "wrong_type"),
        ("small", "NaN", "wrong_type"),
        ("flag", "1", "wrong_type"),
        ("flag", "0", "wrong_type"),
        ("flag", '"true"', "wrong_type"),
        ("flag", "null", "missing_field"),
        ("exact", "1e300", None),
        ("exact", "1" + "0" * 400, "out_of_range"),
        ("exact", '"1"', "wrong_type"),
        ("three", "[1,2]", "wrong_length"),
        ("three", "[1,2,3,4]", "wrong_length"),
        ("three", "[]", "wrong_length"),
        ("three", "[1,null,3]", ("missing_field", "wrong_type")),
        ("three", '[1,"2",3]', "wrong_type"),
        ("three", "[[1],[2],[3]]", "wrong_type"),
        ("three", "[1,1e39,3]", "out_of_range"),
        ("three", "7", "wrong_type"),
        ("three", "null", "missing_field"),
    ],
)
def test_each_type_of_input_refuses_what_it_cannot_take(tester: Server, field: str, text: str, code: Any) -> None:
    """streaming.md 3.6: integers must be integral, and 1.0 is."""
    good = '{"flag":true,"small":1,"exact":0.5,"wide":1,"three":[1,2,3]}'
    record = {key: json.dumps(value) for key, value in json.loads(good).items()} | {field: text}
    bad = "{" + ",".join(f'"{key}":{value}' for key, value in record.items()) + "}"
    lines = bulk(tester, "tester/kinds", f"{good}\n{bad}\n{good}\n".encode(), "&ordered=true").lines
    assert [lines[0].get("code"), lines[2].get("code")] == [None, None]
    assert lines[1].get("code") in (code if isinstance(code, tuple) else (code,)), lines[1]


@pytest.mark.parametrize("value", [None, 3, 1.5, True, ["x"], {"x": 1}])
def test_only_a_string_reaches_a_string_input(server: Server, value: Any) -> None:
    """Acceptance 26: never the text `None`."""
    done = bulk(server, HELLO, ndjson([{"name": value}]))
    assert done.lines[0]["code"] == ("missing_field" if value is None else "wrong_type")
    assert b"None" not in done.body


def test_missing_fields_take_the_default_of_the_config_and_wrong_types_do_not(server: Server) -> None:
    measures = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
    records = [
        {**measures, "island": "Torgersen", "sex": "male"}, {**measures, "island": None}, {**measures}, {}, {**measures, "sex": 1},
        {**measures, "body_mass_g": "3750"},
    ]  # fmt: skip
    lines = bulk(server, "sluice/penguins", ndjson(records), "&ordered=true").lines
    assert [line.get("code") for line in lines] == [None, None, None, None, "wrong_type", "wrong_type"]
    one, other = (line["result"] for line in lines[1:3])
    # What is scored alone, as happens to a record on a busy machine, has other last digits than what is scored beside others.
    assert one | {"probabilities": None} == other | {"probabilities": None}
    assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-5, abs=1e-9)


# Lines


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"a"}\n{"name":"b"}\n',
        b'{"name":"a"}\n{"name":"b"}',
        b'{"name":"a"}\r\n{"name":"b"}\r\n',
        b'{"name":"a"}\r\n{"name":"b"}\r',
        b'\xef\xbb\xbf{"name":"a"}\n{"name":"b"}\n',
        b'\xef\xbb\xbf\r\n{"name":"a"}\r\n\r\n{"name":"b"}',
        b'\n\n  \n\t\n{"name":"a"}\n \t \n\r\n{"name":"b"}\n\n\n',
        b'  {"name":"a"}  \n\t{"name":"b"}\t\n',
        b'{"name":"a"}{"name":"b"}\n',
        b'{"name":"a"} {"name":"b"}',
        b'{"name":"a"}\t{"name":"b"}\r\n',
        b'{ "name" : "a" }\n{"name"\t:\t"b"}',
        b'{"\\u006eame":"a"}\n{"name":"b"}\n',
    ],
)
def test_clean_and_unclean_lines_answer_every_object(server: Server, body: bytes) -> None:
    """Acceptance 6."""
    done = bulk(server, HELLO, body, "&ordered=true")
    assert [line["result"]["greeting"] for line in done.lines] == ["Hello a", "Hello b"]


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n\r\n", b" ", b"\t\n \n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_body_of_blank_lines_is_a_clean_empty_answer(server: Server, body: bytes) -> None:
    done = bulk(server, HELLO, body)
    assert (done.code, done.status, done.body) == (0, 200, b"")


def test_blank_lines_count_and_objects_on_one_line_share_its_number(server: Server) -> None:
    body = b'\n\n{"name":1}\n\r\n{"name":2}{"name":3} {"name":"ok"}\n{"name":4}'
    lines = bulk(server, HELLO, body, "&ordered=true").lines
    assert [line.get("line") for line in lines] == [3, 5, 5, None, 6]


def test_values_that_are_no_objects_between_objects_of_a_line_get_their_own_errors(server: Server) -> None:
    lines = bulk(server, HELLO, b'{"name":"a"} [1] 2 {"name":"b"}\n', "&ordered=true").lines
    assert [line.get("code") for line in lines] == [None, "not_an_object", "not_an_object", None]


def test_curl_d_of_a_file_answers_every_object(server: Server, tmp_path: Any) -> None:
    """Acceptance 6: `-d` removes the newlines."""
    path = tmp_path / "records"
    path.write_bytes(ndjson({"name": str(i), "yhat_id": i} for i in range(500)))
    done = curl(f"{server.model(HELLO)}/?bulk=true&ordered=true", "-d", f"@{path}", auth=server.auth)
    assert [line["result"]["greeting"] for line in done.lines] == [f"Hello {i}" for i in range(500)]


def test_a_line_with_too_many_objects_is_one_error_and_one_with_as_many_as_it_may_is_answered(server: Server) -> None:
    """`curl -d @file` puts all objects on one line. 1 MiB of them would be 160 MB of results."""
    record = b'{"name":"a"}'
    done = bulk(server, HELLO, record * 16_384 + b"\n" + b"{}" * 524_288 + b"\n" + record, "&ordered=true")
    lines = done.lines
    assert (done.code, len(lines)) == (0, 16_386)
    assert [line["code"] for line in lines if "code" in line] == ["too_many_records"]
    assert lines[16_384]["error"] == "line 2 has more than 16,384 records (use --data-binary, one object per line)"


@pytest.mark.parametrize("query", ["", "&ordered=true"])
def test_many_lines_with_many_objects_are_answered_in_small_blocks(server: Server, query: str) -> None:
    """One block of these lines would have 200,000 results, which take 60 MB."""
    before = server.rss_bytes("VmHWM")
    done = bulk(server, HELLO, (b'{"name":"a"}' * 4000 + b"\n") * 50, query)
    assert done.code == 0
    assert done.body.count(b'"greeting":"Hello a"') == 200_000
    assert server.rss_bytes("VmHWM") - before < 32 * MIB


def test_a_line_of_the_limit_may_end_in_lf_or_crlf(server: Server) -> None:
    record = b'{"name":"%b"}' % (b"x" * (MIB - len('{"name":""}')))
    lines = bulk(server, HELLO, record + b"\r\n" + record + b"\n" + record + b" \r\n", "&ordered=true").lines
    assert [line.get("code") for line in lines] == [None, None, "line_too_long"]


def test_a_line_with_garbage_behind_several_objects_says_what_to_do(server: Server) -> None:
    lines = bulk(server, HELLO, b'{"name":"a"}{"name":"b"}{"name\n').lines
    assert [line["code"] for line in lines] == ["invalid_json"]
    assert lines[0]["error"].endswith("(use --data-binary, one object per line)")


def test_a_line_of_5_mib_is_one_error_and_the_rest_is_scored(server: Server) -> None:
    """Acceptance 8."""
    texts = [b'{"name":"%d"}' % i for i in range(1000)]
    texts[500] = b'{"name":"' + b"x" * 5 * MIB + b'"}'
    done = bulk(server, HELLO, b"\n".join(texts), "&summary=true")
    *lines, last = done.lines
    errors = [line for line in lines if "code" in line]
    assert [(line["code"], line["line"]) for line in errors] == [("line_too_long", 501)]
    assert "--data-binary" in errors[0]["error"]
    assert last["summary"]["results"] == 999


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("ending", [b"\n", b""])
def test_64_mib_without_a_newline_are_one_error_in_constant_memory(server: Server, is_first: bool, ending: bytes) -> None:
    """Section 4: 1 GiB without a newline."""
    before = server.rss_bytes()
    good = b'{"name":"a"}\n'
    body = (b"" if is_first else good) + b"x" * 64 * MIB + ending + (good if ending else b"")
    lines = bulk(server, HELLO, body).lines
    assert [line["code"] for line in lines if "code" in line] == ["line_too_long"]
    assert len(lines) == 1 + (not is_first) + bool(ending)
    assert server.rss_bytes() - before < 16 * MIB


@pytest.mark.heavy
def test_1_gib_without_a_newline_is_one_error_in_constant_memory(server: Server, tmp_path: Any) -> None:
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(1024 * MIB)
    before = server.rss_bytes()
    done = curl(f"{server.model(HELLO)}/?bulk=true", "-T", str(path), auth=server.auth)
    assert [line["code"] for line in done.lines] == ["line_too_long"]
    assert server.rss_bytes() - before < 16 * MIB


@pytest.mark.parametrize("model", [HELLO, "sluice/language"])
def test_the_line_limit_is_exact_wherever_the_line_stands(tmp_path: Any, model: str) -> None:
    """A line as long as the limit passes, one byte more does not, wherever the chunks end. The newline does not count."""
    limit, field = 200, b"name" if model == HELLO else b"text"

    def line(length: int) -> bytes:
        frame = b'{"%b":""}' % field
        return frame[:-2] + b"x" * (length - len(frame)) + frame[-2:]

    lengths = [200, 201, 20, 199, 200, 5000, 200, 202, 201, 200]
    body = b"\n".join(map(line, lengths))
    with serving(tmp_path / "data", SLUICE_LINE_LIMIT_BYTES=str(limit), SLUICE_SCORE_REPLICAS="1") as server:
        for text in (body, body + b"\n"):
            lines = bulk(server, model, text, "&ordered=true").lines
            assert [line.get("code") for line in lines] == [None if n <= limit else "line_too_long" for n in lengths]
            assert [line["line"] for line in lines if "line" in line] == [i + 1 for i, n in enumerate(lengths) if n > limit]


def test_an_error_in_the_first_and_in_the_last_line_is_seen(server: Server) -> None:
    lines = bulk(server, HELLO, b'[1]\n{"name":"a"}\n[2]', "&ordered=true").lines
    assert [line.get("line") for line in lines] == [1, None, 3]


def test_a_body_of_bad_lines_only_is_answered_in_full(server: Server) -> None:
    lines = bulk(server, HELLO, b"bad\n" * 20_000, "&summary=true").lines
    assert lines.pop()["summary"]["errors"] == 20_000
    assert sorted(line["line"] for line in lines) == list(range(1, 20_001))
