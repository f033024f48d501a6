"""The SQL that is written: nothing in it is the user's, and it means what the text means.

Generated statements are run by us and, rewritten, by DuckDB alone.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.tasks.query.binding import bind
from engine.tasks.query.database import Database
from engine.tasks.query.planning import Planning
from engine.tasks.query.relational import Emitter
from engine.tasks.query.segments import Source
from engine.tasks.query.sql import Sql, fill
from engine.tasks.query.tql import parse
from tests.engine.tasks.query.facts import facts
from tests.engine.tasks.query.stored import Unstoppable, columns_of, rows_of, store

# The emitter's own words, generated names, punctuation and `?`: all that a statement may have.
OWN_WORDS = """
SELECT AS FROM WHERE GROUP BY ORDER ASC DESC NULLS LAST LIMIT OFFSET HAVING OVER PARTITION INNER LEFT JOIN ON UNION ALL
DISTINCT CAST TRY_CAST CASE WHEN THEN ELSE END AND OR NOT IN IS NULL TRUE FALSE NULLIF lambda x i BOOLEAN BIGINT FLOAT DOUBLE
VARCHAR BLOB TIMESTAMP DATE INTERVAL INTEGER abs arg_max arg_min avg bool_or ceil coalesce contains count ends_with exp floor
greatest ilike_escape json_extract json_extract_string json_keys least len length like_escape list list_avg list_concat
list_contains list_cosine_similarity list_distance list_dot_product list_extract list_filter list_max list_min list_product
list_reduce list_slice list_sum list_transform list_value ln lower max min octet_length pow round row_number sqrt starts_with
sum to_days to_hours to_microseconds to_milliseconds to_minutes to_months to_seconds to_weeks to_years unnest upper
"""
NAMES = re.compile(r"[tcs]\d+|r|s|t")
STATEMENTS = Path(__file__).with_name("test_running.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return facts(tmp_path_factory.mktemp("facts"))


class Listening(Database):
    """A database that keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Sql] = []

    def table(self, statement: Sql, *rest: Any) -> pa.Table:
        self.heard.append(statement)
        return super().table(statement, *rest)


def statements_of(text: str, source: Source, params: Any = None) -> list[Sql]:
    """All SQL that answers a text."""
    parsed = parse(text, has_default_source=True)
    sources = {None: source, "ann/facts": source}
    rows, fields = bind(parsed.query, vectors=parsed.vectors, numbers=parsed.numbers, params=params, sources=sources)
    database = Listening()
    Planning(database, Unstoppable()).settle(rows, fields)
    return [*database.heard, Emitter().statement(rows.node, [column for _, column in rows.columns])]


def assert_own_words(statement: Sql) -> None:
    words = re.findall(r"[A-Za-z_0-9]+", statement.text)
    assert {word for word in words if word not in OWN_WORDS.split() and not NAMES.fullmatch(word)} == set()
    assert re.sub(r"[A-Za-z_0-9 (),?=<>*+\-/%|\[\]:.]", "", statement.text) == ""
    assert statement.text.count("?") == len(statement.constants)


def texts() -> Iterator[str]:
    """Every text and every expression of the tests of running."""
    yield from re.findall(r'^        \("((?:select|with) [^"]*)"', STATEMENTS, re.MULTILINE)
    yield from re.findall(r"^        \('(select [^']*)'", STATEMENTS, re.MULTILINE)
    for expression in re.findall(r'^        \("([^"]+)", [^\[]', STATEMENTS, re.MULTILINE):
        if not expression.startswith(("select", "with")):
            yield f"select {expression} as e where n = 1"


def test_every_statement_has_our_own_words_only(source: Source) -> None:
    all_texts = list(texts())
    assert len(all_texts) > 120
    for text in all_texts:
        for statement in statements_of(text, source):
            assert_own_words(statement)


HOSTILE = "x') FROM t0; ATTACH 'evil' --*/ {} ? $1"


@pytest.mark.parametrize(
    "text",
    [
        "select text as \"@@\" where text = '@@' group by text",
        "select case when text like '@@' then '@@' else meta['@@'] end as \"@@\", '@@' || text as b",
        'select "@@" from (select n as "@@" order by n limit 3) where "@@" in (1, 2) or \'@@\' in (select text)',
        'select distinct "@@" from (select \'@@\' as "@@") order by 1',
        'select "@@".n from (select n) "@@" join (select n as k) b on "@@".n = b.k',
    ],
)
def test_what_the_user_writes_is_a_constant_or_nothing(source: Source, text: str) -> None:
    quoted = HOSTILE.replace("'", "''")
    text = text.replace("'@@'", f"'{quoted}'").replace("@@", HOSTILE)
    for statement in statements_of(text, source):
        assert_own_words(statement)


def test_constants_follow_the_order_of_their_places() -> None:
    parts = [Sql("a + ?", (1,)), Sql("b")]
    assert fill("f({1}, ?, {0}, {0})", *parts, own=(9,)) == Sql("f(b, ?, a + ?, a + ?)", (9, 1, 1))


# Differential


class Same(NamedTuple):
    """One expression in our language and in DuckDB's."""

    ours: str
    theirs: str


ROWS = [
    {"a": 1, "b": 3, "f": 0.5, "s": "x", "k": True},
    {"a": 2, "b": None, "f": -1.5, "s": "xy", "k": None},
    {"a": None, "b": 3, "f": None, "s": None, "k": False},
    {"a": -7, "b": 0, "f": 2.0, "s": "", "k": True},
    {"a": 2, "b": 5, "f": 0.5, "s": "Y", "k": False},
    {"a": 0, "b": -2, "f": 100.25, "s": "x", "k": True},
]
COLUMNS = columns_of(a="int64", b="int64", f="float64", s="string", k="bool")


def both(text: str) -> Same:
    return Same(text, text)


def built(template: str, *parts: Same, theirs: str | None = None) -> Same:
    return Same(template.format(*(part.ours for part in parts)), (theirs or template).format(*(part.theirs for part in parts)))


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> Same:
    if not depth or draw(st.booleans()):
        return both(draw(st.sampled_from(["a", "b", "f", "0", "1", "3", "2.5", "null::double"])))
    inner = numbers(depth - 1)
    template, theirs = draw(
        st.sampled_from(
            [
                ("({} + {})", None),
                ("({} - {})", None),
                ("({} * {})", None),
                ("({} / {})", "(CAST({} AS DOUBLE) / NULLIF(CAST({} AS DOUBLE), 0))"),
                ("({} % {})", "({} % NULLIF({}, 0))"),
                ("coalesce({}, {})", None),
                ("(- {0})", None),
                ("abs({0})", None),
                ("case when {0} > {1} then {1} else {0} end", None),
                ("length(cast({0} as int)::text)", None),
            ]
        )
    )
    return built(template, draw(inner), draw(inner), theirs=theirs)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> Same:
    if not depth or draw(st.booleans()):
        template, theirs = draw(
            st.sampled_from(
                [
                    ("{} < {}", None),
                    ("{} >= {}", None),
                    ("{} = {}", None),
                    ("{} != {}", None),
                    ("{} between 0 and {}", None),
                    ("{} in (1, 2, {})", None),
                    ("{} not in (1, 3)", None),
                    ("{} is null", None),
                    ("k", None),
                    ("s like '%x?'", "s like '%x_'"),
                    ("s ilike 'X*'", "s ilike 'X%'"),
                    ("s in ('x', 'Y')", None),
                    ("s >= 'x'", None),
                    ("contains(s, 'y')", None),
                    ("a in (select b)", "a in (select b from t)"),
                ]
            )
        )
        return built(template, draw(numbers(1)), draw(numbers(1)), theirs=theirs)
    inner = conditions(depth - 1)
    return built(draw(st.sampled_from(["({} and {})", "({} or {})", "(not {0})"])), draw(inner), draw(inner))


@st.composite
def statements(draw: st.DrawFn) -> Same:
    """One statement; DuckDB gets the order of the rows as its last key."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    ours, theirs = KINDS[kind]
    one, other, where = draw(numbers()), draw(numbers()), draw(conditions())
    limit = draw(st.integers(0, 4))
    return Same(
        ours.format(p=one.ours, q=other.ours, w=where.ours, n=limit),
        theirs.format(p=one.theirs, q=other.theirs, w=where.theirs, n=limit),
    )


KINDS = {
    "rows": ("select {p} as p, {q} as q where {w}", "select {p} as p, {q} as q from t where {w} order by r"),
    "sorted": (
        "select {p} as p, s where {w} order by p desc, s limit {n} offset 1",
        "select {p} as p, s from t where {w} order by p desc nulls last, s nulls last, r limit {n} offset 1",
    ),
    "groups": (
        "select k, count(*) as c, sum({p}) as p, max(s) as q where {w} group by k having count(*) > 1",
        """select k, count(*) as c, sum({p}) as p, max(s) as q from t where {w} group by k having count(*) > 1
        order by min(r)""",
    ),
    "distinct": (
        "select distinct {p} as p, k where {w}",
        "select p, k from (select {p} as p, k, r from t where {w}) group by p, k order by min(r)",
    ),
    "nested": (
        "select p, count(*) as c from (select {p} as p, b as m order by a desc limit 4) where m > 0 group by p",
        """select p, count(*) as c from (
            select {p} as p, b as m, row_number() over (order by a desc nulls last, r) as o from t
            order by a desc nulls last, r limit 4
        ) where m > 0 group by p order by min(o)""",
    ),
    "union": (
        "select s, k where {w} union all select s, f > 0",
        """select s, k from (select s, k, 0 as o, r from t where {w} union all select s, f > 0, 1, r from t)
        order by o, r""",
    ),
    "best": (
        "select * from (select k, {p} as p order by p, a limit {n} by k) limit 5",
        """select k, p from (
            select k, p, row_number() over (partition by k order by p nulls last, a nulls last, r) as o, a, r
            from (select k, {p} as p, a, r from t)
        ) where o <= {n} order by p nulls last, a nulls last, r limit 5""",
    ),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return store(tmp_path_factory.mktemp("differential"), COLUMNS, ROWS, cuts=2)


@pytest.fixture(scope="module")
def rival() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    connection.register("rows", pa.Table.from_pylist([{**row, "r": r} for r, row in enumerate(ROWS)]))
    connection.execute("create table t as select * from rows")
    return connection


@given(statement=statements())
@settings(max_examples=60, deadline=None)
def test_generated_statements_agree_with_the_database(stored: Source, rival: duckdb.DuckDBPyConnection, statement: Same) -> None:
    assert_same(stored, rival, statement)


@pytest.mark.heavy
@given(statement=statements())
@settings(max_examples=1000, deadline=None)
def test_many_generated_statements_agree_with_the_database(
    stored: Source, rival: duckdb.DuckDBPyConnection, statement: Same
) -> None:
    assert_same(stored, rival, statement)


def assert_same(stored: Source, rival: duckdb.DuckDBPyConnection, statement: Same) -> None:
    expected = [tuple(map(plain, row)) for row in rival.execute(statement.theirs).fetchall()]
    found = [tuple(map(plain, row.values())) for row in rows_of(statement.ours, stored)]
    assert found == expected


@given(items=st.lists(st.integers(-9, 9), max_size=5), start=st.none() | st.integers(-7, 7), stop=st.none() | st.integers(-7, 7))
@settings(max_examples=60, deadline=None)
def test_indexes_and_slices_are_those_of_python(
    tmp_path_factory: pytest.TempPathFactory, items: list[int], start: int | None, stop: int | None
) -> None:
    columns = columns_of(l="list<int64>", i="int64")
    index = 0 if start is None else start
    source = store(tmp_path_factory.mktemp("lists"), columns, [{"l": items, "i": index}])
    written = f"l[{'' if start is None else start}:{'' if stop is None else stop}]"
    element = items[index] if -len(items) <= index < len(items) else None
    [row] = rows_of(f"select {written} as part, l[{index}] as constant, l[i] as computed", source)
    assert row == {"part": items[start:stop], "constant": element, "computed": element}


def plain(value: Any) -> Any:
    """Sums are decimals in DuckDB, and a small whole number may be an integer or a double."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
