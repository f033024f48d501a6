"""A value means the same wherever it comes from: written into the text, by position, by number, by name, as a list or as bytes."""

import json
from typing import Any

import numpy as np
import pytest

from tests.query.asking import ask, assert_refused, b64, literal, rows
from tests.serving import Server

FORMS = [
    'select n, cosine_similarity(embedding, {}) as s from "{}" order by s desc limit 7',
    'select n, 1 - cosine_similarity(embedding, {}) as s from "{}" where not (part = 3) and n in (1, 2, 3, 5, 8) order by s',
    'select n, case when part < 25 then l2_norm(embedding - {}) else null end as s from "{}" order by s, n limit 9',
]


@pytest.mark.parametrize("form", FORMS)
def test_a_vector_in_every_spelling(server: Server, facts: str, vectors: np.ndarray, form: str) -> None:
    vector = vectors[21]
    numbers = vector.tolist()
    spellings: list[tuple[str, Any]] = [
        ("?", [numbers]),
        ("$1", [numbers]),
        (":v", {"v": numbers}),
        ("$v", {"v": numbers}),
        ("?", [b64(vector)]),
        (":v", {"v": b64(vector)}),
    ]
    expected = ask(server, form.format(literal(vector), facts))
    assert expected.status_code == 200, expected.text
    assert expected.json()["data"]
    for sign, params in spellings:
        found = ask(server, form.format(sign, facts), params=params)
        assert found.status_code == 200, (sign, found.text)
        assert found.content == expected.content, sign


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("select n from '{source}' where not n > {value} limit 5", 10),
        ("select n from '{source}' where n in ({value}, 12)", 10),
        ("select case part when {value} then 'yes' else 'no' end as a from '{source}' limit 60", 10),
        ("select n from '{source}' limit {value}", 10),
        ("select n from '{source}' offset {value}", 998),
        ("select n, {value} as v from '{source}' where doc = {value} and n < 40", "d7"),
        ("select n from '{source}' where n between {value} and 12.5", 10.5),
        ("select n, {value} as v from '{source}' where n + {value} = 2000000500", 2000000000),
        ("select n, {value} is null as v from '{source}' where n = coalesce({value}, 4)", None),
        ("select {value} as v from '{source}' where n = 1", True),
        ("select {value} as v, length({value}) as l from '{source}' where n = 1", "a'b\"c -- /* ? :x $1 \\"),
    ],
)
def test_a_scalar_in_every_spelling(server: Server, facts: str, form: str, value: Any) -> None:
    form = form.replace("'{source}'", '"{source}"')
    written = "'" + value.replace("'", "''") + "'" if isinstance(value, str) else json.dumps(value)
    expected = ask(server, form.format(value=written, source=facts))
    assert expected.status_code == 200, expected.text
    spellings: list[tuple[str, Any]] = [("$1", [value]), (":v", {"v": value}), ("$v", {"v": value})]
    if form.count("{value}") == 1:
        spellings.append(("?", [value]))
    for sign, params in spellings:
        found = ask(server, form.format(value=sign, source=facts), params=params)
        assert found.content == expected.content, (sign, found.text[:300], expected.text[:300])


def test_a_list_is_what_in_looks_in(server: Server, facts: str) -> None:
    expected = rows(server, f'select n from "{facts}" where n in (3, 5, 8)')
    assert rows(server, f'select n from "{facts}" where n in ?', params=[[3, 5, 8]]) == expected
    assert rows(server, f'select n from "{facts}" where n in :l', params={"l": [3, 5, 8]}) == expected
    assert rows(server, f'select n from "{facts}" where n in ARRAY[3, 5, 8]') == expected
    assert rows(server, f'select n from "{facts}" where not n in ? and n < 4', params=[[0, 2]]) == [{"n": 1}, {"n": 3}]


def test_a_matrix_has_vectors(server: Server, facts: str, vectors: np.ndarray) -> None:
    expected = rows(server, f'select n from "{facts}" order by l2_norm(embedding - {literal(vectors[4])}) limit 3')
    query = f'select n from "{facts}" order by l2_norm(embedding - :m[1]) limit 3'
    assert rows(server, query, params={"m": vectors[3:5].tolist()}) == expected


@pytest.mark.parametrize(
    ("text", "params", "code"),
    [
        ("n = ?", None, "bad_param"),
        ("n = ?", [], "bad_param"),
        ("n = ?", [1, 2], "bad_param"),
        ("n = $2", [1, 2], "bad_param"),
        ("n = $0", [1], "bad_param"),
        ("n = ?", {"a": 1}, "bad_param"),
        ("n = :a", [1], "bad_param"),
        ("n = :a", {"b": 1}, "bad_param"),
        ("n = :a and n = ?", {"a": 1}, "bad_param"),
        ("n = :__v0", {"__v0": 1}, "bad_param"),
        ("n = :a", {"a": {"x": 1}}, "bad_"),
        ("l2_norm(embedding - ?) < 1", [{"b64": "AAAA", "dtype": "f32"}], "bad_vector"),
        ("l2_norm(embedding - ?) < 1", [{"b64": "AACAfw==", "dtype": "f32"}], "bad_vector"),  # infinity
        ("l2_norm(embedding - ?) < 1", [{"b64": "AADAfw==", "dtype": "f32"}], "bad_vector"),  # NaN
        ("l2_norm(embedding - ?) < 1", [{"b64": "no base64!", "dtype": "f32"}], "bad_vector"),
        ("l2_norm(embedding - ?) < 1", [{"b64": "AAAAAA==", "dtype": "f16"}], ""),
        ("l2_norm(embedding - ?) < 1", [[1, 2, 3]], "dimension_mismatch"),
        ("l2_norm(embedding - ?) < 1", [b64([1.0, 2.0])], "dimension_mismatch"),
        ("l2_norm(embedding - ?) < 1", ["text"], "type_mismatch"),
        ("l2_norm(embedding - ?) < 1", [[1, "2", 3]], ""),
        ("n = ?", [[1, 2]], ""),
    ],
)
def test_values_that_do_not_fit(server: Server, facts: str, text: str, params: Any, code: str) -> None:
    fields = {} if params is None else {"params": params}
    body = assert_refused(ask(server, f'select n from "{facts}" where {text}', **fields), 400)
    assert code in body["code"], body


def test_a_value_is_never_a_part_of_the_text(server: Server) -> None:
    for value in ("' or 1 = 1 --", "x'; drop table t0; --", "\\", "?", ":a", "$1", '"', "⟪", "a\nb", "%", "*"):
        assert rows(server, 'select title from "admin/books" where title = ?', params=[value]) == []
        assert rows(server, 'select ? as v from "admin/books" limit 1', params=[value]) == [{"v": value}]
