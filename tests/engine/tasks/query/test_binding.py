"""What a text cannot mean, and the place and the hint that say so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.tasks.query.binding import bind
from engine.tasks.query.bound import Limit, Sort, VectorScore
from engine.tasks.query.datatypes import FLOAT64, STRING, TIMESTAMP, common_type, list_of, vector_of
from engine.tasks.query.patterns import like_pattern
from engine.tasks.query.refusals import Refused
from engine.tasks.query.segments import Source
from engine.tasks.query.tql import parse
from tests.engine.tasks.query.facts import COLUMNS, facts
from tests.engine.tasks.query.stored import columns_of, rows_of, store

JOIN = '"ann/facts" a join "ann/facts" b on a.n = b.n'


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Source]:
    source = facts(tmp_path_factory.mktemp("facts"))
    return {None: source, "ann/facts": source}


def refusal_of(text: str, sources: dict[str | None, Source], params: Any = None) -> Refused:
    parsed = parse(text, has_default_source=True)
    with pytest.raises(Refused) as caught:
        bind(parsed.query, vectors=parsed.vectors, numbers=parsed.numbers, params=params, embedded={}, sources=sources)
    return caught.value


@pytest.mark.parametrize(
    ("text", "code", "at", "hint"),
    [
        ("select txt", "unknown_column", 7, 'Did you mean "text"?'),
        ("select TEXT", "unknown_column", 7, 'Did you mean "text"?'),
        (f"select a.n from {JOIN} and b.n = 1", "unsupported", None, None),
        ("select n where txet = 'a'", "unknown_column", 15, 'Did you mean "text"?'),
        (f"select a.m from {JOIN}", "unknown_column", 7, None),
        (f"select c.n from {JOIN}", "unknown_column", 7, None),
        (f"select n from {JOIN}", "ambiguous_column", 7, "Write a.n or b.n."),
        (f"select * from {JOIN}", "duplicate_column", 7, "Use AS to give one of them another name."),
        ("select n, x as n", "duplicate_column", 10, "Use AS to give one of them another name."),
        ("select n where genre = 'fictoin'", "unknown_label", 15, 'Did you mean "fiction"?'),
        ("select n where genre in ('news', 'old')", "unknown_label", 15, None),
        ("select n where text", "type_mismatch", 15, None),
        ("select n where nums > 1", "type_mismatch", 15, "Close it with any(...) or all(...)."),
        ("select n + text as e", "type_mismatch", 7, None),
        ("select lower(n)", "type_mismatch", 7, "Use CAST(... AS text)."),
        ("select n where n = 'a'", "type_mismatch", 15, None),
        ("select n where day = 'tomorrow'", "type_mismatch", 15, None),
        ("select at - at as e", "type_mismatch", None, None),
        ("select max(nums)", "type_mismatch", 7, "Use amax for the elements of a list."),
        ("select n order by v", "type_mismatch", 18, None),
        ("select n[0]", "type_mismatch", None, None),
        ("select nums['a']", "type_mismatch", None, None),
        ("select case when n > 1 then 'a' else 1 end", "type_mismatch", None, None),
        ("select cosine_similarity(v, ARRAY[1,2])", "dimension_mismatch", 7, None),
        ("select cosine_similarity(v, text)", "type_mismatch", 28, None),
        ("select rrf(n, x)", "type_mismatch", 11, None),
        ("select bm25_similarity(genre, 'a')", "unsupported", 7, None),
        ("select rrf(l2_norm(v), l1_norm(v)) as s where s > 0", "unsupported", 46, None),
        ("select n where count(*) > 1", "unsupported", 15, None),
        ("select count(*) as c where c > 1", "unsupported", 27, "Use HAVING."),
        ("select count(count(*))", "unsupported", 13, None),
        ("select text, count(*)", "unsupported", 7, None),
        ("select distinct genre order by n", "unsupported", 31, None),
        ("select n order by 2", "unknown_column", 18, None),
        ("select n where n in (select n, x)", "type_mismatch", None, None),
        ('select n from "ann/facts" f where n in (select k from (select n as k) where k = f.x)', "unsupported", 80, "Use a JOIN."),
        (f"select a.n from {JOIN} and a.n + b.n = 1", "unsupported", None, None),
        ("select n union select n, x", "type_mismatch", None, None),
        ("select n union select text", "type_mismatch", None, None),
        ("select n union all select n order by m", "unknown_column", 37, None),
    ],
)
def test_what_is_refused(sources: dict[str | None, Source], text: str, code: str, at: int | None, hint: str | None) -> None:
    refused = refusal_of(text, sources)
    assert refused.code == code
    if at is not None:
        assert refused.at == at
    if hint is not None:
        assert refused.hint == hint


@pytest.mark.parametrize(
    ("text", "params", "code"),
    [
        ("select n limit ?", [-1], "bad_param"),
        ("select n limit ?", [1.5], "bad_param"),
        ("select n where n = ?", [], "bad_param"),
        ("select n where n = ?", [{"a": 1}], "bad_param"),
        ("select n where n in ?", [["a", 1]], "bad_param"),
        ("select dot(v, ?)", [[1, 2]], "dimension_mismatch"),
        ("select dot(v, ?)", [[1, None, 2]], "bad_vector"),
        ("select dot(v, ?)", [[1e300, 0, 0]], "bad_vector"),
        ("select dot(v, ?)", [[]], "bad_vector"),
        ("select ?[:,0] as e", [[[1, 2], [3]]], "bad_vector"),
        ("select dot(v, ?)", ["a"], "type_mismatch"),
    ],
)
def test_parameters_that_do_not_fit(sources: dict[str | None, Source], text: str, params: list[Any], code: str) -> None:
    assert refusal_of(text, sources, params).code == code


def test_parameters_of_all_forms_mean_the_same(sources: dict[str | None, Source]) -> None:
    literal = "select text, dot(v, ARRAY[1,2,3]) as s where n in (1, 2) and not n = 2 or text = 'zero' order by s limit 2"
    text = "select text, dot(v, {}) as s where n in {} and not n = {} or text = {} order by s limit {}"
    expected = rows_of(literal, sources)
    values: list[Any] = [[1, 2, 3], [1, 2], 2, "zero", 2]
    names = dict(zip("abcde", values, strict=True))
    assert rows_of(text.format(*"?????"), sources, values) == expected
    assert rows_of(text.format("$1", "$2", "$3", "$4", "$5"), sources, values) == expected
    assert rows_of(text.format(":a", ":b", ":c", ":d", ":e"), sources, names) == expected
    values[0] = np.array([1, 2, 3], dtype=np.float32)
    assert rows_of(text.format(*"?????"), sources, values) == expected


def test_dimensions_are_named_in_the_message(sources: dict[str | None, Source]) -> None:
    assert refusal_of("select dot(v, ARRAY[1,2])", sources).message == "v has 3 dimensions, the vector has 2."


def test_the_two_class_columns_of_a_join_are_compared_by_name(tmp_path: Path) -> None:
    left = store(tmp_path, columns_of(g="class a b"), [{"g": "a"}, {"g": "b"}])
    right = store(tmp_path, columns_of(g="class b c"), [{"g": "b"}, {"g": "c"}])
    found = rows_of('select x.g, y.g as h from "o/x" x join "o/y" y on x.g = y.g', {"o/x": left, "o/y": right})
    assert found == [{"g": 1, "h": 0}]


def test_nested_selects_over_one_source_are_flat(sources: dict[str | None, Source]) -> None:
    parsed = parse("select * from (select text, dot(v, ARRAY[1,0,0]) as s) order by s desc limit 5", has_default_source=True)
    rows, _ = bind(parsed.query, vectors=parsed.vectors, sources=sources)
    assert isinstance(rows.node, Limit)
    assert isinstance(rows.node.input, Sort)
    assert isinstance(rows.node.input.keys[0].expression, VectorScore)
    assert rows.columns[1][1] == rows.node.input.keys[0].expression


def test_a_text_that_grows_too_large_is_refused(sources: dict[str | None, Source]) -> None:
    doubling = "select n + n as n"
    for _ in range(14):
        doubling = f"select n + n as n from ({doubling})"
    assert refusal_of(doubling, sources).code == "too_complex"
    deep = "select n + 1 as n"
    for _ in range(40):
        deep = f"select abs(n + 1) as n from ({deep})"
    assert refusal_of(deep, sources).code == "too_complex"


def test_more_than_256_outputs_are_refused(sources: dict[str | None, Source]) -> None:
    names = [f"n as n{i}" for i in range(250 - len(COLUMNS))]
    assert len(rows_of(f"select *, {', '.join(names)} limit 1", sources)[0]) == 250
    assert refusal_of(f"select *, {', '.join(f'n as n{i}' for i in range(250))}", sources).code == "too_complex"


@pytest.mark.parametrize(
    ("pattern", "written"),
    [("a%b*", "a%b%"), ("_?", "__"), (r"\*\?\%\_", r"*?\%\_"), ("\\", r"\\"), (r"\\", r"\\"), (r"\a", "a")],
)
def test_patterns(pattern: str, written: str) -> None:
    assert like_pattern(pattern) == written


def test_common_types() -> None:
    assert common_type(list_of(FLOAT64), vector_of(3)) == list_of(FLOAT64)
    assert common_type(STRING, TIMESTAMP) is None
    assert common_type(vector_of(2), vector_of(3)) is None
