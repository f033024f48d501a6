"""What each part of the language gives, on one small dataset."""

import contextlib
import datetime
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.tasks.query.refusals import Refused
from engine.tasks.query.request import Request
from engine.tasks.query.running import plan
from engine.tasks.query.segments import Source
from engine.tasks.query.tql import parse
from engine.tasks.stopping import Stopped as StoppedTask
from tests.engine.tasks.query.facts import BIG, facts, utc
from tests.engine.tasks.query.stored import DATABASE, Unstoppable, answer, columns_of, rows_of, store

HONEY, BEES, SKY, ZERO = "Honey never spoils", "Bees make honey", "The sky is blue", "zero"
QUERY = "ARRAY[1,0,0]"
SIMILARITY = f"cosine_similarity(v, {QUERY})"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return facts(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="module")
def named(source: Source) -> dict[str | None, Source]:
    """The dataset as the default, and by a name."""
    return {None: source, "ann/facts": source}


def column_of(text: str, sources: Any, params: Any = None) -> list[Any]:
    """The values of the first column."""
    return [next(iter(row.values())) for row in rows_of(text, sources, params)]


# Rows by a score


def test_the_nearest_rows_come_first_with_their_scores(source: Source) -> None:
    text = f"select * from (select text, {SIMILARITY} as score) order by score desc limit 2"
    assert rows_of(text, source) == [{"text": HONEY, "score": 1.0}, {"text": BEES, "score": float(np.float32(0.9938837))}]


@pytest.mark.parametrize(
    "text",
    [
        f"select text, {SIMILARITY} as s order by s desc limit 3",
        f"select text, {SIMILARITY} as s order by {SIMILARITY} desc limit 3",
        f"select text, s from (select *, {SIMILARITY} as s) order by s desc limit 3",
        f"SELECT text, {SIMILARITY.upper().replace('V,', 'v,')} AS s ORDER BY 2 DESC LIMIT 3",
        f"select text, {SIMILARITY} as s order by cosine_distance(v, {QUERY}) limit 3",
        f"select text, {SIMILARITY} as s order by 3 - 2 * {SIMILARITY} limit 3",
        "select text, cosine_similarity(v, ?) as s order by s desc limit 3",
    ],
)
def test_many_forms_of_a_query_are_one_scan_and_give_the_same_rows(source: Source, text: str) -> None:
    params = [[1, 0, 0]] if "?" in text else None
    result = answer(text, source, params)
    assert [list(row.values()) for batch in result.batches for row in batch.to_pylist()] == [
        [HONEY, 1.0],
        [BEES, float(np.float32(0.9938837))],
        [SKY, 0.0],
    ]
    assert result.plan[0]["step"] == "scan_topk"


def test_equal_scores_come_by_row_number_and_nulls_last(source: Source) -> None:
    assert column_of(f"select text order by {SIMILARITY} desc limit 5", source) == [HONEY, BEES, SKY, ZERO, None]
    assert column_of(f"select text order by {SIMILARITY} limit 5", source) == [SKY, ZERO, BEES, HONEY, None]


def test_pages_join_to_the_whole_order(tmp_path: Path) -> None:
    rows = [{"i": i, "v": [i % 5, 1]} for i in range(60)]
    many = store(tmp_path, columns_of(i="int64", v="vector 2"), rows, cuts=3)
    order = "select i order by dot(v, ARRAY[1,0]) desc"
    pages = [i for start in range(0, 60, 7) for i in column_of(f"{order} limit 7 offset {start}", many)]
    assert pages == column_of(order, many) == sorted(range(60), key=lambda i: (-(i % 5), i))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (f"l2_norm(v - {QUERY})", [0.0, 0.141421377658844, 1.4142135381698608, None, 1.0]),
        (f"l1_norm(v, {QUERY})", [0.0, 0.20000001788139343, 2.0, None, 1.0]),
        (f"linf_norm({QUERY}, v)", [0.0, 0.10000002384185791, 1.0, None, 1.0]),
        (f"dot(v, {QUERY})", [1.0, 0.8999999761581421, 0.0, None, 0.0]),
        ("l2_norm(v)", [1.0, 0.9055384993553162, 1.0, None, 0.0]),
        ("cosine_similarity(v, v)", [1.0, 1.0, 1.0, None, 0.0]),
        (f"cosine_distance(v, {QUERY})", [0.0, 0.006116271018981934, 1.0, None, 1.0]),
    ],
)
def test_the_functions_of_vectors(source: Source, function: str, expected: list[float | None]) -> None:
    assert column_of(f"select {function} as s", source) == pytest.approx(expected, abs=1e-6)


def test_vectors_of_joined_rows_are_compared_too(named: dict[str | None, Source]) -> None:
    functions = "cosine_similarity(a.v, b.v) as c, l2_norm(a.v - b.v) as l2, l1_norm(a.v, b.v) as l1, linf_norm(a.v, b.v) as li"
    text = f'select {functions} from "ann/facts" a join "ann/facts" b on a.genre = b.genre where a.n = 3 and b.n < 3'
    [row] = rows_of(text, named)
    assert list(row.values()) == pytest.approx([0.1104315, 1.2727922, 1.8, 0.9], abs=1e-6)
    zero = 'select cosine_similarity(a.v, b.v) as c from "ann/facts" a join "ann/facts" b on a.genre = b.genre where a.n > 3'
    assert column_of(zero, named) == [0.0, 0.0]


class Stopped(Unstoppable):
    """Somebody has asked to stop before the database begins."""

    def interrupt_with(self, interrupt: Callable[[], object] | None) -> None:
        if interrupt is not None:
            raise StoppedTask


def test_a_filter_that_runs_for_a_plan_can_be_stopped_as_well(tmp_path: Path) -> None:
    many = store(tmp_path, columns_of(i="int64", v="vector 2"), [{"i": i, "v": [i, 1]} for i in range(100)])
    text = "select i where i > 3 order by dot(v, ARRAY[1,0]) desc limit 2"
    with pytest.raises(StoppedTask):
        plan(parse(text, has_default_source=True), Request(text), {None: many}, Stopped(), DATABASE)


def test_a_filter_runs_first_and_few_rows_are_gathered(tmp_path: Path) -> None:
    rows = [{"i": i, "v": [i, 1]} for i in range(100)]
    many = store(tmp_path, columns_of(i="int64", v="vector 2"), rows, cuts=2)
    few = answer("select i where i in (3, 50, 97) order by dot(v, ARRAY[1,0]) desc limit 2", many)
    assert [step["step"] for step in few.plan] == ["filter", "gather"]
    assert [row["0"] for batch in few.batches for row in batch.to_pylist()] == [97, 50]
    most = answer("select i where i > 20 order by dot(v, ARRAY[1,0]) limit 2", many)
    assert [step["step"] for step in most.plan] == ["filter", "scan_topk"]
    assert [row["0"] for batch in most.batches for row in batch.to_pylist()] == [21, 22]


def test_a_score_filters_after_scoring(source: Source) -> None:
    assert column_of(f"select text, {SIMILARITY} as s where s > 0.5 and n > 0 order by s", source) == [BEES, HONEY]
    assert rows_of(f"select sum(s) as s from (select {SIMILARITY} as s where n < {BIG})", source) == [
        {"s": pytest.approx(1.9938837, abs=1e-6)}
    ]


def test_few_rows_are_copied_for_the_database_and_many_are_marked(tmp_path: Path) -> None:
    columns = columns_of(i="int64", t="string", v="vector 2", at="timestamp")
    rows = [{"i": i, "t": f"t{i}", "v": [i % 7, 1], "at": utc(2024, 1, 1 + i % 28)} for i in range(100)]
    many = store(tmp_path, columns, rows, cuts=3)
    for kept in ([3, 10, 50, 97], list(range(20, 100))):
        text = "select i, t, v, at, dot(v, ARRAY[1,0]) as s where i in ? order by s desc, i desc"
        expected = sorted((rows[i] for i in kept), key=lambda row: (-row["v"][0], -row["i"]))
        found = rows_of(text, many, [kept])
        assert found == [{**row, "s": float(row["v"][0])} for row in expected]


def test_inner_and_outer_limits_stay_in_their_order(source: Source) -> None:
    text = f"select text, n from (select *, {SIMILARITY} as s order by s desc limit 3) where n > 1 order by n desc limit 1"
    assert column_of(text, source) == [SKY]
    assert column_of("select n from (select n order by n desc limit 3) limit 2 offset 1", source) == [3, 2]


def test_words_and_ranks(source: Source) -> None:
    assert column_of("select text order by bm25_similarity(text, 'HONEY bees') desc limit 2", source) == [BEES, HONEY]
    scores = f"{SIMILARITY}, bm25_similarity(text, 'honey bees')"
    fused = rows_of(f"select text, rrf({scores}) as s order by s desc limit 3", source)
    assert [row["text"] for row in fused] == [HONEY, BEES, SKY]
    assert [row["s"] for row in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 62 + 1 / 61, 1 / 63], abs=1e-7)
    kept = rows_of(f"select text, rrf({scores}) as s where n > 1 and {SIMILARITY} >= 0", source)
    assert [row["s"] for row in kept] == pytest.approx([2 / 61, 1 / 62, 1 / 63], abs=1e-7)


def test_ranks_of_joined_rows_are_those_of_one_source(named: dict[str | None, Source]) -> None:
    scores = "cosine_similarity(a.v, ARRAY[1,0,0]), bm25_similarity(b.text, 'honey bees'), l2_norm(a.v, ARRAY[0,1,0])"
    joined = f'select a.text, rrf({scores}) as s from "ann/facts" a join "ann/facts" b on a.n = b.n order by s desc'
    alone = f"select text, rrf({scores.replace('a.', '').replace('b.', '')}) as s where n > 0 order by s desc"
    assert rows_of(joined, named) == rows_of(alone, named)


def test_vectors_come_out_as_they_are_stored(source: Source) -> None:
    expected = [[1.0, 0.0, 0.0], [pytest.approx(0.9), pytest.approx(0.1), 0.0], [0.0, 1.0, 0.0], None, [0.0, 0.0, 0.0]]
    assert column_of("select v", source) == expected
    assert column_of("select v where n > 1 order by n desc", source) == [expected[4], expected[2], expected[1]]
    assert column_of("select v union select v", source) == expected
    assert column_of("select v as w group by n", source) == [[vector] for vector in expected]


# Relations


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select n", [1, 2, 3, None, BIG]),
        ("select n order by n desc", [BIG, 3, 2, 1, None]),
        ("select n order by x desc", [1, BIG, 3, 2, None]),
        ("select n order by x", [3, BIG, 1, 2, None]),
        ("select n order by ok, n desc", [2, BIG, 1, None, 3]),
        ("select text as n order by n limit 1", [BEES]),
        ("select n as k where k = 2", [2]),
        ("select x as n where n = 2", [None]),
        ("select n limit 2 offset 1", [2, 3]),
        ("select n offset 3", [None, BIG]),
        ("select n limit all", [1, 2, 3, None, BIG]),
        ("select n limit 0", []),
        ("select distinct genre order by genre desc", [1, 0, None]),
        ("select distinct ok", [True, False, None]),
        ("select n from (select n, text order by text desc limit 3) where n < 9", [3, 1]),
        ("select n where n in (select n where x > 0)", [1]),
        ("select n where n not in (select n where n > 1)", [1]),
        ("select n where n not in (select n where n is null or n > 1)", []),
        ("select n where genre in (select genre where n = 1)", [1, BIG]),
        ("select row_number() where n > 1", [1, 2, 4]),
        ("select row_number() from (select n order by n desc limit 3)", [0, 1, 2]),
        ("select n order by length(text) limit 1 by genre", [BIG, 2, None]),
        ("select text from (select * order by n desc limit 1 by genre) limit 2", [ZERO, SKY]),
        ("select count(*) where n > 1e10", [1]),
        ("select n from (select n, 1 as one) where one = 1 and n < 3", [1, 2]),
        ("with w as (select n where n < 3) select n from w order by n desc", [2, 1]),
    ],
)
def test_clauses(source: Source, text: str, expected: list[Any]) -> None:
    assert column_of(text, source) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select n where n < 3 union all select n where n = 2", [1, 2, 2]),
        ("select n where n < 3 union select n where n > 1 and n < 9", [1, 2, 3]),
        ("select ok union select ok", [True, False, None]),
        ("select ok intersect select ok where n > 1", [True, False, None]),
        ("select ok intersect all select ok where n < 9", [True, False, None]),
        ("select genre except select genre where n = 3", [0, None]),
        ("select genre except all select genre where n = 3", [0, 1, None, 0]),
        ("select n where n < 3 union all select x where n = 1 order by n desc limit 2", [2.0, 1.5]),
        ("select genre where n = 2 union all select text where n = 3", ["news", SKY]),
        ("select count(*) from (select n union all select n)", [10]),
    ],
)
def test_set_operations_keep_the_order_of_first_appearance(source: Source, text: str, expected: list[Any]) -> None:
    assert column_of(text, source) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select genre, count(*) as c group by genre", [(0, 2), (1, 2), (None, 1)]),
        ("select genre, sum(n) as s group by genre having count(*) > 1 order by s", [(1, 5), (0, BIG + 1)]),
        ("select count(*), count(x) as c, count(distinct genre) as d", [(5, 4, 2)]),
        ("select sum(n), avg(n) as a, min(text), max(day) where n < 4", [(6, 2.0, BEES, datetime.date(2024, 1, 1))]),
        ("select sum(n), count(*) where n > 1 and n < 1", [(None, 0)]),
        ("select n > 1 as b, max(genre) group by n > 1", [(False, 0), (True, 1), (None, None)]),
        ("select genre, text group by genre", [(0, [HONEY, ZERO]), (1, [BEES, SKY]), (None, [None])]),
        ("select n * 2 as m, genre group by genre, 1", [(2, 0), (4, 1), (6, 1), (None, None), (BIG * 2, 0)]),
        ("select count(*) from (select genre, max(n) group by genre)", [(3,)]),
        ("select count(*) from (select max(n))", [(1,)]),
        ("select 1 as one, sum(n), avg(n), max(n) as m where n < 3", [(1, 3, 1.5, 2)]),
        ("select max(s) from (select genre, count(*) as s group by genre)", [(2,)]),
        ("select genre as g, length(text) + 1 as t group by g order by g desc", [(1, [16, 16]), (0, [19, 5]), (None, [None])]),
    ],
)
def test_groups_of_both_meanings(source: Source, text: str, expected: list[tuple[Any, ...]]) -> None:
    assert [tuple(row.values()) for row in rows_of(text, source)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('select a.n, b.n as m from "ann/facts" a join "ann/facts" b on a.n + 1 = b.n', [(1, 2), (2, 3)]),
        (
            'select a.n, b.n as m from "ann/facts" a left join "ann/facts" b on b.n = a.n + 1 where a.n < 4',
            [(1, 2), (2, 3), (3, None)],
        ),
        ('select n, b.c from "ann/facts" a left join (select n, 7 as c where n = 1) b using (n) where n < 3', [(1, 7), (2, None)]),
        ('select count(*) from "ann/facts" a join "ann/facts" b on a.genre = b.genre and a.ok = b.ok', [(5,)]),
        ('select facts.n from "ann/facts" join (select n as k) b on n = b.k where b.k = 3', [(3,)]),
    ],
)
def test_joins(named: dict[str | None, Source], text: str, expected: list[tuple[Any, ...]]) -> None:
    assert [tuple(row.values()) for row in rows_of(text, named)] == expected


def test_a_score_of_a_row_without_partner_is_null(named: dict[str | None, Source]) -> None:
    join = '"ann/facts" a left join "ann/facts" b on a.n = b.n + 1'
    assert rows_of(f"select cosine_similarity(b.v, {QUERY}) as s, b.v from {join} where a.n < 3", named) == [
        {"s": None, "v": None},
        {"s": 1.0, "v": [1.0, 0.0, 0.0]},
    ]


def test_a_join_that_would_explode_is_refused_before_it_runs(tmp_path: Path) -> None:
    same = store(tmp_path, columns_of(k="int64"), [{"k": 1}] * 2300)
    with pytest.raises(Refused, match="5290000 rows") as caught:
        answer("select count(*) from (select k) a join (select k) b using (k)", same)
    assert caught.value.code == "too_complex"


# Expressions


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("7 / 2", 3.5),
        ("n / 0", None),
        ("x / (x - x)", None),
        ("n % 0", None),
        ("-7 % 3", -1),
        ("7 % -3", 1),
        ("-7.5 % 2", -1.5),
        ("2 ^ 3 ^ 2", 64.0),
        ("2 * 3 ^ 2", 18.0),
        ("-n", -1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775807", 2**63 - 1),
        ("n + 0.5", 1.5),
        ("not null", None),
        ("not (n = 1 and null)", None),
        ("n = 1 or null", True),
        ("n between 1 and 2", True),
        ("n not between 1 and 2", False),
        ("n in (2, null)", None),
        ("n not in (2, 3)", True),
        ("n in ARRAY[1, 9007199254740993]", True),
        ("x in (1.5)", True),
        ("text in ('a', 'zero')", False),
        ("text is not null", True),
        ("case when n > 1 then 'b' when n = 1 then 'a' end", "a"),
        ("case genre when 'news' then 1 else 2.5 end", 2.5),
        ("cast(x as int)", 2),
        ("n::text || '!'", "1!"),
        ("'12'::int", 12),
        ("genre::text", "fiction"),
        ("genre || text", "fiction" + HONEY),
        ("genre = 'fiction'", True),
        ("genre != 'news' and genre in ('news', 'fiction')", True),
        ("genre < 'news'", True),
        ("contains(genre, 'ict')", True),
        ("text like 'honey%'", False),
        ("text ilike 'h?n*_spoils'", True),
        (r"'a*b%' like 'a\*b\%'", True),
        ("contains(text, 'never')", True),
        ("starts_with(text, 'Hon') and ends_with(text, 'ils')", True),
        ("equals(upper(lower(text)), 'HONEY NEVER SPOILS')", True),
        ("length(text)", 18),
        ("sqrt(-1)", None),
        ("ln(0)", None),
        ("round(2.345, 2) + floor(1.5) + ceil(1.2) + abs(-1)", 6.35),
        ("coalesce(null, x, 2)", 1.5),
        ("exp(0)", 1.0),
        # Lists, as Python counts them.
        ("nums[0]", 1.0),
        ("nums[-1]", 3.0),
        ("nums[3]", None),
        ("nums[-4]", None),
        ("nums[1:]", [0.0, 3.0]),
        ("nums[:-1]", [1.0, 0.0]),
        ("nums[-2:9]", [0.0, 3.0]),
        ("nums[2:1]", []),
        ("nums[n]", 0.0),
        ("v[1:]", [0.0, 0.0]),
        ("ARRAY[[1,2],[3,4]][:,1]", [2.0, 4.0]),
        ("ARRAY[[1,2],[3,4]][1,-1]", 4.0),
        ("ARRAY[1,2,3][5]", None),
        ("sum(nums)", 4.0),
        ("avg(nums)", 4 / 3),
        ("prod(nums) + amin(nums) + amax(nums)", 3.0),
        ("shape(nums)", [3]),
        ("any(nums > 2)", True),
        ("(all(nums > 2))", False),
        ("nums >= 1", [True, False, True]),
        ("nonzero(nums)", [0, 2]),
        ("contains(tags, 'b')", True),
        ("tags = 'b'", [False, True]),
        ("nums || ARRAY[9]", [1.0, 0.0, 3.0, 9.0]),
        # JSON.
        ("meta['doc'] = 'a.md'", True),
        ("meta['k'][0] = 1", True),
        ("meta['k'][-1] = 'z'", True),
        ("meta['k'][7]", None),
        ("meta['none']['deep'] is null", True),
        ("meta['n'] > 4", True),
        ("meta['n'] in (4, 5)", True),
        ("meta['n'] + 1", 6.0),
        ("meta['doc'] > 5", None),
        ("meta['k']", '[1,2,"z"]'),
        ("meta['n']::int", 5),
        ("lower(meta['doc']) || 'x'", "a.mdx"),
        ("coalesce(meta['none'], 'x')", "x"),
        ("coalesce(meta['n'], 0)", 5.0),
        ("keys(meta)", ["doc", "k", "n"]),
        # Time.
        ("at = '2024-01-01T01:00:00+01:00'", True),
        ("at > '2024-01-01'", False),
        ("day = '2024-01-01'", True),
        ("day < '2024-01-01T12:00:00'", True),
        ("day + interval '1 month'", utc(2024, 2, 1)),
        ("at - interval '1 day'", utc(2023, 12, 31)),
        ("at - day >= interval '0 hour'", True),
        ("date '2024-03-01' - day", 60),
        ("at::date", datetime.date(2024, 1, 1)),
        ("'2024-01-01'::timestamp = at", True),
    ],
)
def test_expressions_on_the_first_row(source: Source, expression: str, expected: Any) -> None:
    [found] = column_of(f"select {expression} as e where n = 1", source)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_null_lists_and_empty_lists(source: Source) -> None:
    functions = "any(nums > 2) as a, all(nums > 2) as b, nums[0] as c, nums[1:] as d, nonzero(nums) as e, shape(nums) as f"
    found = rows_of(f"select {functions} where n in (2, 3)", source)
    assert [list(row.values()) for row in found] == [[False, True, None, [], [], [0]], [None] * 6]


@pytest.mark.parametrize(
    "expression",
    ["nums[-1:]" + "[-1:]" * 40, "nums[n:]" + "[n:]" * 40, "tags[" * 30 + "n" + "]" * 30, "shape(" * 40 + "nums" + ")" * 40],
)
def test_templates_that_repeat_their_parts_do_not_explode(source: Source, expression: str) -> None:
    began = time.perf_counter()
    with contextlib.suppress(Refused):
        column_of(f"select {expression} as e", source)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "level", ["select distinct n, genre from ({}) order by n limit 9", "select n, genre from ({}) order by n limit 9 by genre"]
)
def test_deep_queries_are_answered_or_refused(source: Source, level: str) -> None:
    deep = "select n, genre"
    for _ in range(50):
        deep = level.format(deep)
    found: Any = None
    try:
        found = len(rows_of(deep, source))
    except Refused as refused:
        found = refused.code
    assert found in (5, "too_complex")


def test_sums_and_products_of_whole_numbers_are_whole(tmp_path: Path) -> None:
    source = store(tmp_path, columns_of(l="list<int64>"), [{"l": [2, 3]}, {"l": []}, {"l": [None, 2**40]}, {"l": [2**40, 2**40]}])
    assert rows_of("select sum(l) as s, prod(l) as p limit 3", source) == [
        {"s": 5, "p": 6},
        {"s": None, "p": None},
        {"s": 2**40, "p": 2**40},
    ]
    with pytest.raises(Refused, match="range"):
        rows_of("select prod(l) as p", source)


def test_numbers_that_json_writes_beyond_doubles_are_compared_exactly(tmp_path: Path) -> None:
    source = store(tmp_path, columns_of(m="json"), [{"m": '{"id":9007199254740993}'}, {"m": '{"id":9007199254740992}'}])
    assert column_of("select row_number() where m['id'] = 9007199254740993", source) == [0]


@pytest.mark.parametrize(
    "expression",
    ["n + 9223372036854775807", "n * 9223372036854775807", "sum(n * 8)", "text::int", "'2024-13-01'::date", "meta['doc']::int"],
)
def test_what_leaves_its_range_is_an_arithmetic_error(source: Source, expression: str) -> None:
    with pytest.raises(Refused) as caught:
        column_of(f"select {expression} as e where n > 0", source)
    assert caught.value.code == "arithmetic_error"


def test_the_replica_answers_after_an_error_of_the_database(source: Source) -> None:
    with pytest.raises(Refused):
        column_of("select text::int as e", source)
    assert column_of("select count(*)", source) == [5]


def test_an_answer_may_be_dropped_in_the_middle(tmp_path: Path) -> None:
    many = store(tmp_path, columns_of(i="int64", s="string"), [{"i": i, "s": str(i)} for i in range(20_000)])
    for text in ("select i, s where i >= 0", "select i, s"):
        batches = answer(text, many, format="ndjson").batches
        first = next(batches)
        assert 0 < first.num_rows <= 8192
        del batches, first
        assert column_of("select count(*) where i > 9", many) == [19_990]
    sizes = [batch.num_rows for batch in answer("select i, s where i >= 0 order by s", many, format="ndjson").batches]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 8192


def test_a_dataset_of_vectors_alone_can_be_counted(tmp_path: Path) -> None:
    source = store(tmp_path, columns_of(v="vector 2"), [{"v": [1, 0]}, {"v": None}])
    assert column_of("select count(*)", source) == [2]
    assert column_of("select v where v is not null", source) == [[1.0, 0.0]]


def test_unnamed_expressions_have_the_name_of_their_function_or_their_place(source: Source) -> None:
    result = answer("select n, LENGTH(text), n + 1, meta['doc'], cosine_distance(v, v)", source)
    assert [column.name for column in result.columns] == ["n", "length", "column_2", "column_3", "cosine_distance"]


def test_columns_have_the_kinds_of_their_values(source: Source) -> None:
    result = answer("select *, null as nothing, 1 as one, ARRAY['a'] as words", source)
    kinds = {column.name: column.kind for column in result.columns}
    assert kinds == {
        "text": "string",
        "v": "vector",
        "genre": "class",
        "n": "int",
        "x": "float64",
        "tags": "list<string>",
        "nums": "list<float64>",
        "meta": "json",
        "at": "timestamp",
        "day": "date",
        "ok": "bool",
        "nothing": "null",
        "one": "int",
        "words": "list<string>",
    }
    for text in ("select *", "select * where n > 0", "select * order by n"):
        result = answer(text, source)
        for batch in result.batches:
            batch.validate(full=True)
            assert batch.schema.types == [column.type for column in result.columns]


def test_class_labels_keep_their_names_in_lists(source: Source) -> None:
    [column, _] = answer("select genre, ok group by ok", source).columns
    assert (column.kind, column.names) == ("list<class>", ("fiction", "news"))


def test_a_column_that_a_segment_lacks_is_null_there(tmp_path: Path) -> None:
    columns = columns_of(a="int64", v="vector 2")
    old = store(tmp_path, columns[:1], [{"a": 1}])
    new = store(tmp_path, columns, [{"a": 2, "v": [1, 0]}])
    both = Source("ann/x@2", columns, (*old.segments, *new.segments))
    assert rows_of("select a, v, l2_norm(v) as l order by l", both) == [
        {"a": 2, "v": [1.0, 0.0], "l": 1.0},
        {"a": 1, "v": None, "l": None},
    ]


def test_an_empty_dataset_has_no_rows_and_all_columns(tmp_path: Path) -> None:
    empty = Source("ann/empty@1", columns_of(text="string", v="vector 2"), ())
    assert rows_of("select * order by l2_norm(v, ARRAY[1,0]) limit 3", empty) == []
    assert rows_of("select * where text = 'a'", empty) == []
    assert rows_of("select count(*)", empty) == [{"count": 0}]


# Plans


def test_a_plan_names_the_steps_and_warns(source: Source) -> None:
    steps, warnings = plan_of("select text order by l2_norm(v, ARRAY[1,0,0]) desc limit 2", source)
    assert steps == [{"step": "scan_topk", "dataset": "ann/facts@1", "column": "v", "metric": "l2_norm", "rows": 5, "k": 2}]
    assert warnings == ["A distance ordered DESC returns the farthest rows."]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (f"select n order by {SIMILARITY} limit 2", "A similarity ordered ASC returns the least similar rows."),
        ("select n limit 2", "LIMIT without ORDER BY returns the first rows in the order of the source."),
        (f"select n order by {SIMILARITY} desc limit 2", None),
        ("select * from (select n order by n) limit 2", None),
    ],
)
def test_warnings(source: Source, text: str, warning: str | None) -> None:
    assert plan_of(text, source)[1] == ([] if warning is None else [warning])


def test_a_text_without_its_vector_can_be_planned(source: Source) -> None:
    steps, _ = plan_of("select n order by cosine_similarity(v, embed('bees')) desc limit 2", source)
    assert steps[0]["step"] == "scan_topk"
    vector = np.array([0, 1, 0], dtype=np.float32)
    embedded = {("bees", None): vector}
    text = "select text order by cosine_similarity(v, embed('bees')) desc limit 1"
    assert rows_of(text, source, embedded=embedded) == [{"text": SKY}]


def test_the_rest_of_a_plan_is_sql(source: Source) -> None:
    steps, _ = plan_of("select genre, count(*) where n > 1 group by genre order by 2", source)
    assert steps == [{"step": "sql", "operations": ["filter", "group", "sort"]}]


def test_an_analysed_plan_has_rows_and_times(source: Source) -> None:
    result = answer(f"select n where n > 1 order by {SIMILARITY} desc limit 2", source)
    assert sum(batch.num_rows for batch in result.batches) == 2
    assert [(step["step"], step["rows_out"]) for step in result.plan] == [("filter", 3), ("scan_topk", 2), ("take", 2)]
    assert all(step["ms"] >= 0 for step in result.plan)


def plan_of(text: str, source: Source) -> tuple[list[dict[str, Any]], list[str]]:
    return plan(parse(text, has_default_source=True), Request(text), {None: source}, Unstoppable(), DATABASE)


@pytest.mark.parametrize(
    "text", ["select * from (select text, v, cosine_similarity(v, ARRAY[1,0,0]) as s) order by s desc limit 2", "select * limit 2"]
)
def test_a_plain_top_k_does_without_the_database(text: str, source: Source) -> None:
    result = answer(text, source)
    assert sum(batch.num_rows for batch in result.batches) == 2
    assert {step["step"] for step in result.plan} <= {"scan_topk", "take"}


def test_a_page_of_json_ends_at_its_limit(source: Source) -> None:
    with pytest.raises(Refused, match="100000"):
        answer("select n order by n limit 10 offset 99995", source)
    assert rows_of("select n order by n limit 10 offset 99995", source, format="ndjson") == []
