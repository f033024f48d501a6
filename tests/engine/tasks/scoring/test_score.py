"""Scoring a block: n records in, n lines out, each with its own id and number, whatever the records and the model do."""

import json
import re
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engine.tasks.scoring import score as scoring
from engine.tasks.scoring.model import LoadedModel
from engine.tasks.scoring.score import go_time, iso_time, score

BULK_ID = "0" * 32
LINE_KEYS = ["bulk_id", "end_time", "result", "start_time", "version", "yhat_id", "yhat_model"]
ERROR_KEYS = ["bulk_id", "code", "end_time", "error", "line", "start_time", "version", "yhat_id", "yhat_model"]


def model_of(
    folder: Path, nodes: list[Any], ins: list[Any], outs: list[Any], config: dict[str, Any], constants: list[Any] | None = None
) -> LoadedModel:
    graph = helper.make_graph(nodes, "graph", ins, outs, constants or [])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    return LoadedModel("kermit/tiny@3", folder, {"name": "tiny", "max_batch_size": 100, **config})


def value(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


@pytest.fixture(scope="module")
def gather(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """`{"i": 0..4}` -> ten times i. Another index makes the whole run raise."""
    return model_of(
        tmp_path_factory.mktemp("gather"),
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [value("i", TensorProto.INT64, "N")],
        [value("y", TensorProto.FLOAT, "N")],
        {"inputs": [{"kind": "column", "input": "i", "field": "i"}], "outputs": [{"output": "y", "as": "y"}], "max_batch_size": 7},
        [helper.make_tensor("table", TensorProto.FLOAT, [5], [0, 10, 20, 30, 40])],
    )


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """`{"s": "text"}` -> the same text, bare."""
    return model_of(
        tmp_path_factory.mktemp("echo"),
        [helper.make_node("Identity", ["s"], ["y"])],
        [value("s", TensorProto.STRING, "N")],
        [value("y", TensorProto.STRING, "N")],
        {"inputs": [{"kind": "column", "input": "s", "field": "s"}], "outputs": [{"output": "y", "as": None}]},
    )


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """`{"n": 3}` -> [0, 1, 2]: each run takes one record, which determines the width of the result."""
    return model_of(
        tmp_path_factory.mktemp("ranges"),
        [
            helper.make_node("Squeeze", ["n"], ["limit"]),
            helper.make_node("Range", ["zero", "limit", "one"], ["row"]),
            helper.make_node("Unsqueeze", ["row", "axis"], ["y"]),
        ],
        [value("n", TensorProto.INT64, "N")],
        [value("y", TensorProto.INT64, "N", "width")],
        {
            "inputs": [{"kind": "column", "input": "n", "field": "n"}],
            "outputs": [{"output": "y", "as": "y"}],
            "max_batch_size": 1,
        },
        [
            helper.make_tensor("zero", TensorProto.INT64, [], [0]),
            helper.make_tensor("one", TensorProto.INT64, [], [1]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [0]),
        ],
    )


@pytest.fixture(scope="module")
def zipmap(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """`{"x": [p, q]}` -> {"no": p, "yes": q}, as a sequence of maps."""
    ml = "ai.onnx.ml"
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    return model_of(
        tmp_path_factory.mktemp("zipmap"),
        [helper.make_node("ZipMap", ["x"], ["y"], domain=ml, classlabels_strings=["no", "yes"])],
        [value("x", TensorProto.FLOAT, "N", 2)],
        [helper.make_value_info("y", maps)],
        {"inputs": [{"kind": "vector", "input": "x", "field": "x"}], "outputs": [{"output": "y", "as": None}]},
    )


def score_lines(
    model: LoadedModel, block: list[bytes], *, first: int = 1, **header: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The answer to a block of lines: its own lines, parsed, and the header of the reply."""
    raw = b"".join(line + b"\n" for line in block)
    numbers = {} if "lines" in header else {"line": first}
    reply, buffers = score(model, {"bulk_id": BULK_ID, "num_lines": len(block), **numbers, **header}, memoryview(raw))
    payload = b"".join(buffers)
    assert payload == b"" or payload.endswith(b"\n")
    assert reply["parts"][0]["size"] == len(payload)
    return [json.loads(line) for line in payload.split(b"\n")[:-1]], reply


def summary(answers: list[dict[str, Any]]) -> list[Any]:
    return [answer.get("code", answer.get("result")) for answer in answers]


# A line


def test_a_result_line_has_its_seven_keys_in_order(gather: LoadedModel) -> None:
    [answer], _ = score_lines(gather, [b'{"i":2,"yhat_id":"a"}'])
    assert list(answer) == LINE_KEYS
    assert answer["bulk_id"] == BULK_ID
    assert (answer["result"], answer["version"], answer["yhat_id"], answer["yhat_model"]) == ({"y": 20.0}, 3, "a", "tiny")


def test_an_error_line_has_its_keys_in_order_and_the_number_of_its_line(gather: LoadedModel) -> None:
    answers, reply = score_lines(gather, [b'{"i":2}', b"broken", b'{"yhat_id":7}', b"3"], first=41)
    assert list(answers[1]) == ERROR_KEYS
    assert [answer.get("line") for answer in answers] == [None, 42, 43, 44]
    assert summary(answers) == [{"y": 20.0}, "invalid_json", "missing_field", "not_an_object"]
    assert answers[1]["error"].startswith("line 42 is not JSON: ")
    assert answers[2]["yhat_id"] == 7
    assert re.fullmatch("[0-9a-f]{32}", answers[1]["yhat_id"])
    assert (reply["results"], reply["errors"]) == (1, 3)


def test_lines_without_consecutive_numbers_keep_their_own(gather: LoadedModel) -> None:
    answers, _ = score_lines(gather, [b"x", b'{"i":1}', b"y"], lines=[9, 2, 5])
    assert [answer.get("line") for answer in answers] == [9, None, 5]


def test_start_is_never_after_end_and_both_have_the_form_that_was_asked_for(gather: LoadedModel) -> None:
    for options, pattern in (
        ({}, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} [+-]\d{4} \S+"),
        ({"times": "iso"}, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"),
    ):
        [answer], _ = score_lines(gather, [b'{"i":2}'], **options)
        assert re.fullmatch(pattern, answer["start_time"])
        assert re.fullmatch(pattern, answer["end_time"])
        assert answer["start_time"] <= answer["end_time"]


def test_times_have_nine_digits_whatever_they_are() -> None:
    assert iso_time(1_000_000_005) == b"1970-01-01T00:00:01.000000005Z"
    assert b":01.000000005 " in go_time(1_000_000_005)


# n in, n out

# A line, and the results or codes that the model `gather` must give for it.
MIXTURE: list[tuple[bytes, list[Any]]] = [
    *[(b'{"i":%d}' % i, [{"y": 10.0 * i}]) for i in range(5)],
    (b'{"i":3,"yhat_id":"x"}', [{"y": 30.0}]),
    (b'{"i":99}', ["model_failed"]),
    (b'{"i":-9}', ["model_failed"]),
    (b'{"i":"1"}', ["wrong_type"]),
    (b'{"i":1.5}', ["wrong_type"]),
    (b'{"i":null}', ["missing_field"]),
    (b"{}", ["missing_field"]),
    (b'{"i":1,"yhat_id":true}', ["invalid_yhat_id"]),
    (b"[1]", ["not_an_object"]),
    (b"{", ["invalid_json"]),
    (b'{"i":1},{"i":2}', ["invalid_json"]),
    (b'{"i":1}{"i":2}', [{"y": 10.0}, {"y": 20.0}]),
    (b'{"i":1}{"i":77} 5', [{"y": 10.0}, "model_failed", "not_an_object"]),
    (b"", []),
    (b" \t\r", []),
    (b'{"i":1}\r', [{"y": 10.0}]),
]


@settings(deadline=None)
@given(entries=st.lists(st.sampled_from(MIXTURE), min_size=1, max_size=40), first=st.integers(1, 10**9))
def test_every_record_of_any_mixture_gets_its_own_answer(
    gather: LoadedModel, entries: list[tuple[bytes, list[Any]]], first: int
) -> None:
    answers, reply = score_lines(gather, [line for line, _ in entries], first=first)
    assert summary(answers) == [owed for _, all_owed in entries for owed in all_owed]
    numbers = [first + i for i, (_, all_owed) in enumerate(entries) for _ in all_owed]
    assert all(answer.get("line", number) == number for answer, number in zip(answers, numbers, strict=True))
    assert reply["errors"] == sum("code" in answer for answer in answers)
    assert reply["results"] + reply["errors"] == len(answers)
    assert len({str(answer["yhat_id"]) for answer in answers}) >= len(answers) - sum(b'"x"' in line for line, _ in entries)


@settings(deadline=None)
@given(entries=st.lists(st.sampled_from(MIXTURE), min_size=1, max_size=15))
def test_the_size_of_each_line_is_told_where_it_is_asked_for(gather: LoadedModel, entries: list[tuple[bytes, list[Any]]]) -> None:
    lines = [line for line, _ in entries]
    raw = b"".join(line + b"\n" for line in lines)
    header = {"bulk_id": BULK_ID, "num_lines": len(lines), "lines": list(range(1, len(lines) + 1)), "want_sizes": True}
    reply, buffers = score(gather, header, memoryview(raw))
    payload, start = b"".join(buffers), 0
    for size, (_, owed) in zip(reply["parts"][0]["line_sizes"], entries, strict=True):
        assert payload[start : start + size].count(b"\n") == len(owed)
        start += size
    assert start == len(payload)


def test_a_block_of_blank_lines_is_answered_with_nothing(gather: LoadedModel) -> None:
    answers, reply = score_lines(gather, [b"", b" ", b"\r"])
    assert answers == []
    assert (reply["results"], reply["errors"]) == (0, 0)


def test_a_record_the_model_fails_on_stands_alone_and_says_why_in_one_line(gather: LoadedModel) -> None:
    answers, _ = score_lines(gather, [b'{"i":1}'] * 20 + [b'{"i":5}'] + [b'{"i":2}'] * 20)
    assert [i for i, answer in enumerate(answers) if "code" in answer] == [20]
    assert answers[20]["code"] == "model_failed"
    assert answers[20]["line"] == 21
    assert 0 < len(answers[20]["error"]) <= 200
    assert "/" not in answers[20]["error"]


def test_ids_stay_with_their_records_through_errors_and_divided_runs(gather: LoadedModel) -> None:
    lines = [b'{"i":%d,"yhat_id":%d}' % (i % 7, i) for i in range(50)]
    answers, _ = score_lines(gather, lines)
    assert [answer["yhat_id"] for answer in answers] == list(range(50))
    assert summary(answers) == [{"y": 10.0 * (i % 7)} if i % 7 < 5 else "model_failed" for i in range(50)]


def test_a_block_larger_than_the_models_batch_is_run_in_parts(gather: LoadedModel) -> None:
    answers, _ = score_lines(gather, [b'{"i":%d}' % (i % 5) for i in range(23)])
    assert summary(answers) == [{"y": 10.0 * (i % 5)} for i in range(23)]


def test_results_of_different_widths_stay_whole(ranges: LoadedModel) -> None:
    widths = [2, 1, 0, 3, 1, 2]
    answers, _ = score_lines(ranges, [b'{"n":%d}' % width for width in widths])
    expected = [{"y": 0 if width == 1 else list(range(width))} for width in widths]
    assert summary(answers) == expected


def test_a_zipmap_has_the_shortest_digits_of_its_floats(zipmap: LoadedModel) -> None:
    _, [payload] = score(zipmap, {"bulk_id": BULK_ID, "num_lines": 1, "line": 1}, memoryview(b'{"x":[0.1,0.9]}\n'))
    assert b'"result":{"no":0.1,"yes":0.9},' in bytes(payload)


@settings(deadline=None)
@given(texts=st.lists(st.text(st.sampled_from(['"', ",", "\\", "a", "\n", "ä", "}"]), max_size=5), min_size=1, max_size=8))
def test_texts_and_ids_read_back_exactly(echo: LoadedModel, texts: list[str]) -> None:
    lines = [json.dumps({"s": text, "yhat_id": text or 0}).encode() for text in texts]
    answers, _ = score_lines(echo, lines)
    assert summary(answers) == texts
    assert [answer["yhat_id"] for answer in answers] == [text or 0 for text in texts]


def test_half_a_surrogate_costs_its_own_record_only(echo: LoadedModel) -> None:
    answers, _ = score_lines(echo, [b'{"s":"a"}', b'{"s":"\\ud800"}', b'{"s":"b","yhat_id":"\\ud800"}'])
    assert summary(answers)[::2] == ["a", "b"]
    assert answers[1]["code"] in ("model_failed", "wrong_type", "invalid_json")
    assert answers[2]["yhat_id"] == "\ud800"


def seconds_for_large_ids(model: LoadedModel, count: int) -> float:
    lines = [b'{"s":"a","yhat_id":%d}' % (2**70 + i) for i in range(count)]
    started = time.perf_counter()
    answers, _ = score_lines(model, lines)
    seconds = time.perf_counter() - started
    assert [answer["yhat_id"] for answer in answers] == [2**70 + i for i in range(count)]
    return seconds


def test_ids_of_more_than_64_bits_do_not_make_a_block_quadratic(echo: LoadedModel) -> None:
    assert seconds_for_large_ids(echo, 4000) < 1.5  # 0.1 if linear, 4 if quadratic


# Refused


def test_a_line_that_was_thrown_away_gets_its_error_line(gather: LoadedModel) -> None:
    header = {"bulk_id": BULK_ID, "num_lines": 1, "line": 8, "refuse": "line_too_long", "reason": "too long"}
    reply, [payload] = score(gather, header, memoryview(b""))
    answer = json.loads(payload)
    assert (answer["code"], answer["error"], answer["line"]) == ("line_too_long", "too long", 8)
    assert (reply["results"], reply["errors"]) == (0, 1)


def test_a_record_that_must_not_be_scored_keeps_its_id(gather: LoadedModel) -> None:
    [answer], _ = score_lines(gather, [b'{"i":1,"yhat_id":"mine"}'], refuse="timeout", reason="too slow")
    assert (answer["code"], answer["yhat_id"]) == ("timeout", "mine")


# Singles


def score_singles(model: LoadedModel, *records: bytes, **header: Any) -> tuple[list[dict[str, Any]], list[str | None]]:
    reply, buffers = score(model, {"sizes": list(map(len, records)), **header}, memoryview(b"".join(records)))
    payload, bodies, start = b"".join(buffers), [], 0
    for part in reply["parts"]:
        bodies.append(json.loads(payload[start : start + part["size"]]))
        start += part["size"]
    assert start == len(payload)
    return bodies, [part["code"] for part in reply["parts"]]


def test_single_records_that_share_a_run_each_get_their_own_answer(gather: LoadedModel) -> None:
    bodies, codes = score_singles(gather, b'{"i":1,\n"yhat_id":"a"}', b'{"i":9}', b"[1]", b"{", b'{"i":"x"}', b'{"i":2}')
    assert codes == [None, "model_failed", "not_an_object", "invalid_json", "wrong_type", None]
    assert bodies[0] == {"result": {"y": 10.0}, "version": 3, "yhat_id": "a", "yhat_model": "tiny"}
    assert list(bodies[0]) == ["result", "version", "yhat_id", "yhat_model"]
    assert list(bodies[4]) == ["code", "error", "yhat_id", "yhat_model"]
    assert bodies[5]["result"] == {"y": 20.0}


def test_a_refused_single_record_is_not_scored(gather: LoadedModel) -> None:
    bodies, codes = score_singles(gather, b'{"i":1,"yhat_id":"a"}', refuse="model_failed", reason="died")
    assert codes == ["model_failed"]
    assert (bodies[0]["error"], bodies[0]["yhat_id"]) == ("died", "a")


# Warm-up


def test_a_model_is_warmed_up_with_its_example_and_says_what_a_record_costs(gather: LoadedModel) -> None:
    assert 0 < gather.warm_up({"i": 1}) < 1


def test_an_example_that_is_refused_is_said_in_words(gather: LoadedModel) -> None:
    with pytest.raises(ValueError, match="the example is refused: field 'i' is missing"):
        gather.warm_up({})


def test_a_reason_for_strangers_has_no_path_and_one_line() -> None:
    assert scoring.one_line(ValueError("cannot open /secret/place now\nmore")) == "cannot open now"
    assert scoring.one_line(ValueError("")) == "ValueError"
    assert len(scoring.one_line(ValueError("x" * 1000))) == 200
