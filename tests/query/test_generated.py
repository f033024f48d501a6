"""Generated statements: DuckDB gives the same rows for the same question; indexes and slices are those of Python.

What differs in the two texts: a division or a rest by 0 is null here, roots and logarithms outside their range are null here, and
nulls are last here in every order.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import duckdb
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.asking import API, put
from tests.query.statements import same
from tests.query.test_expected import as_json
from tests.serving import Server

NUM_ROWS = 60
WORDS = ["", "a", "Bee", "bee hum", "é", "100%", "x_y", "it's", "--", None]
LISTS = [[], [1], [3, 4, 5], [0, -2, 7, 7], None]
ROWS = [
    {
        "id": i,
        "a": None if i % 11 == 3 else (i * 7) % 13 - 6,
        "b": i % 4,
        "x": None if i % 9 == 2 else ((i * 37) % 101 - 50) / 4,
        "s": WORDS[i % len(WORDS)],
        "f": None if i % 7 == 5 else i % 3 == 0,
        "l": LISTS[i % len(LISTS)],
    }
    for i in range(NUM_ROWS)
]
TYPES = "id bigint, a bigint, b bigint, x double, s varchar, f boolean, l bigint[]"


class Pair(NamedTuple):
    """The same expression in both languages."""

    ours: str
    theirs: str

    @classmethod
    def of(cls, pattern: str, *parts: "Pair") -> "Pair":
        return cls(pattern.format(*(part.ours for part in parts)), pattern.format(*(part.theirs for part in parts)))


def plain(text: str) -> Pair:
    return Pair(text, text)


def double(text: str) -> Pair:
    """DuckDB takes a number with a point for a decimal."""
    return Pair(text, f"{text}::double")


def quoted(text: str) -> Pair:
    return plain("'" + text.replace("'", "''") + "'")


INTEGERS = st.integers(-9, 9).map(lambda number: plain(f"({number})" if number < 0 else str(number)))
TEXTS = st.sampled_from([word for word in WORDS if word is not None]).map(quoted)
PATTERNS = st.text(st.sampled_from("aBbe%_ 1"), max_size=4).map(quoted)


def same_text(pattern: str, *parts: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.tuples(*parts).map(lambda found: Pair.of(pattern, *found))


def divided(sign: str, left: st.SearchStrategy[Pair], right: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.tuples(left, right).map(
        lambda found: Pair(f"({found[0].ours} {sign} {found[1].ours})", f"({found[0].theirs} {sign} nullif({found[1].theirs}, 0))")
    )


def guarded(function: str, condition: str, operand: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return operand.map(
        lambda one: Pair(f"{function}({one.ours})", f"case when {one.theirs} {condition} then {function}({one.theirs}) end")
    )


def integers(conditions: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    leaves = st.one_of(INTEGERS, st.sampled_from(["a", "b", "id"]).map(plain))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            same_text("({} + {})", inner, inner),
            same_text("({} - {})", inner, inner),
            same_text("({} * {})", leaves, leaves),
            divided("%", inner, inner),
            same_text("-({})", inner),
            same_text("abs({})", inner),
            same_text("coalesce({}, {})", inner, inner),
            same_text("case when {} then {} else {} end", conditions, inner, inner),
            same_text("case {} when {} then {} end", leaves, INTEGERS, inner),
            same_text("length({})", st.one_of(TEXTS, st.just(plain("s")))),
        ),
        max_leaves=5,
    )


def floats(whole: st.SearchStrategy[Pair], conditions: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    leaves = st.one_of(st.just(plain("x")), st.sampled_from(["0.5", "2.25", "(-1.75)"]).map(double), divided("/", whole, whole))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            same_text("({} + {})", inner, st.one_of(inner, whole)),
            same_text("({} - {})", st.one_of(inner, whole), inner),
            same_text("({} * {})", leaves, leaves),
            divided("/", inner, inner),
            same_text("({} ^ 2)", leaves),
            same_text("floor({})", inner),
            same_text("ceil({})", inner),
            same_text("abs({})", inner),
            guarded("sqrt", ">= 0", inner),
            guarded("ln", "> 0", inner),
            same_text("coalesce({}, {})", inner, whole),
            same_text("case when {} then {} end", conditions, inner),
            same_text("({})::double", whole),
        ),
        max_leaves=4,
    )


def texts() -> st.SearchStrategy[Pair]:
    return st.recursive(
        st.one_of(TEXTS, st.just(plain("s"))),
        lambda inner: st.one_of(
            same_text("lower({})", inner),
            same_text("upper({})", inner),
            same_text("({} || {})", inner, inner),
            same_text("coalesce({}, {})", inner, inner),
            same_text("case when f then {} else {} end", inner, inner),
        ),
        max_leaves=3,
    )


SIMPLE = st.sampled_from(["f", "a > 0", "b = 1", "x is null", "s = 'a'", "true", "null is null", "id < 30"]).map(plain)
WHOLE = integers(SIMPLE)
FLOATS = floats(WHOLE, SIMPLE)
STRINGS = texts()
COMPARED = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])


def compared(left: st.SearchStrategy[Pair], right: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.tuples(left, COMPARED, right).map(lambda found: Pair.of(f"{{}} {found[1]} {{}}", found[0], found[2]))


CONDITIONS = st.recursive(
    st.one_of(
        SIMPLE,
        compared(WHOLE, WHOLE),
        compared(FLOATS, st.one_of(FLOATS, WHOLE)),
        compared(STRINGS, STRINGS),
        same_text("{} between {} and {}", WHOLE, WHOLE, WHOLE),
        same_text("{} not between {} and {}", WHOLE, WHOLE, WHOLE),
        same_text("{} in ({}, {}, 3)", WHOLE, INTEGERS, INTEGERS),
        same_text("{} not in ({}, {})", STRINGS, TEXTS, TEXTS),
        same_text("{} is null", st.one_of(WHOLE, FLOATS, STRINGS)),
        same_text("{} is not null", st.one_of(WHOLE, FLOATS, STRINGS)),
        same_text("{} like {}", STRINGS, PATTERNS),
        same_text("{} not like {}", STRINGS, PATTERNS),
        same_text("{} ilike {}", STRINGS, PATTERNS),
        same_text("contains({}, {})", STRINGS, TEXTS),
        same_text("starts_with({}, {})", STRINGS, TEXTS),
        same_text("a in (select b from {{}} where id < 9)", st.just(plain(""))),
    ),
    lambda inner: st.one_of(
        same_text("({} and {})", inner, inner),
        same_text("({} or {})", inner, inner),
        same_text("not ({})", inner),
        same_text("{} and {}", inner, inner).map(lambda pair: Pair.of("({})", pair)),
    ),
    max_leaves=4,
)
EXPRESSIONS = st.one_of(WHOLE, FLOATS, STRINGS, CONDITIONS.map(lambda pair: Pair.of("({})", pair)))
# No brackets: which operator binds more tightly is the same in both languages.
CHAINS = st.lists(st.sampled_from(["a", "b", "id", "3", "2"]), min_size=2, max_size=6).flatmap(
    lambda names: st.lists(st.sampled_from(["+", "-", "*", "% 7 +", "/ 4 -", "^ 2 *"]), min_size=5, max_size=5).map(
        lambda signs: plain("".join(f"{name} {sign} " for name, sign in zip(names, signs, strict=False)) + "1")
    )
)
JUNCTIONS = st.lists(st.sampled_from(["f", "not f", "a > 1", "not b = 2", "x < 0", "s is null"]), min_size=2, max_size=5).flatmap(
    lambda parts: st.lists(st.sampled_from(["and", "or"]), min_size=4, max_size=4).map(
        lambda words: plain("".join(f"{part} {word} " for part, word in zip(parts, words, strict=False)) + "true")
    )
)


@st.composite
def plain_selects(draw: st.DrawFn) -> tuple[str, str]:
    outputs = draw(st.lists(st.one_of(EXPRESSIONS, CHAINS), min_size=1, max_size=3))
    where = draw(st.one_of(CONDITIONS, JUNCTIONS))
    # A key that is a constant would be a position.
    key = Pair.of("case when id >= 0 then {} end", draw(st.one_of(WHOLE, FLOATS, STRINGS)))
    direction, cut = draw(st.sampled_from(["", "desc"])), f"limit {draw(st.integers(0, 70))} offset {draw(st.integers(0, 20))}"
    both = ", ".join(f"{one.ours} as o{i}" for i, one in enumerate(outputs)), ", ".join(one.theirs for one in outputs)
    ours = f'select {both[0]} from "admin/gen" where {where.ours} order by {key.ours} {direction} {cut}'
    theirs = f"select {both[1]} from gen where {where.theirs} order by {key.theirs} {direction} nulls last, id {cut}"
    return ours, theirs


@st.composite
def grouped_selects(draw: st.DrawFn) -> tuple[str, str]:
    key, where = draw(st.sampled_from(["a", "b", "s", "f", "b % 3", "lower(s)"])), draw(CONDITIONS)
    whole, real, text = draw(WHOLE), draw(FLOATS), draw(STRINGS)
    having = draw(st.sampled_from(["", "having count(*) > 2", "having min(id) < 20 or max(x) > 3"]))
    ours = (
        f"select {key} as k, count(*) as n, count({real.ours}) as c, sum({whole.ours}) as s1, avg({real.ours}) as v, "
        f"min({text.ours}) as lo, max({whole.ours}) as hi, count(distinct {whole.ours}) as d "
        f'from "admin/gen" where {where.ours} group by {key} {having}'
    )
    theirs = (
        f"select {key}, count(*), count({real.theirs}), sum({whole.theirs})::bigint, avg({real.theirs}), min({text.theirs}), "
        f"max({whole.theirs}), count(distinct {whole.theirs}) from gen where {where.theirs} group by {key} {having} "
        "order by min(id)"
    )
    return ours, theirs


@st.composite
def joined_selects(draw: st.DrawFn) -> tuple[str, str]:
    kind = draw(st.sampled_from(["join", "left join", "inner join", "left outer join"]))
    where = draw(st.sampled_from(["true", "g.f", "h.id is null or h.id < 20", "g.x > 0 and not g.b = 1"]))
    on = draw(st.sampled_from(["g.a = h.b", "g.a = h.b and g.b = h.a", "g.id = h.id + 50", "g.s = h.s and g.b = h.b"]))
    text = f"select g.id as i, h.id as j, g.a + h.b as t from {{0}} g {kind} {{0}} h on {on} where {where}"
    return text.format('"admin/gen"'), text.format("gen") + " order by g.id, h.id nulls last"


@st.composite
def combined_selects(draw: st.DrawFn) -> tuple[str, str]:
    word = st.sampled_from(["union", "union all", "intersect", "intersect all", "except", "except all"])
    sides = [f"select {draw(st.sampled_from(['a', 'b', 'id % 5']))} as k, b % 2 as m from {{0}} where {{{{}}}}" for _ in range(3)]
    wheres = [draw(SIMPLE) for _ in range(3)]
    text = f"{sides[0]} {draw(word)} {sides[1]} {draw(word)} {sides[2]} order by k, m"
    ours = text.format('"admin/gen"').format(*(where.ours for where in wheres))
    theirs = text.format("gen").format(*(where.theirs for where in wheres))
    return ours, theirs.replace("order by k, m", "order by k nulls last, m nulls last")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute(f"create table gen ({TYPES})")
        opened.executemany("insert into gen values (?, ?, ?, ?, ?, ?, ?)", [list(row.values()) for row in ROWS])
        yield opened


@pytest.fixture(scope="module")
def session(server: Server) -> Iterator[requests.Session]:
    put(server, "admin/gen", ROWS)
    with requests.Session() as opened:
        opened.auth = server.auth
        yield opened


def check(server: Server, session: requests.Session, connection: duckdb.DuckDBPyConnection, pair: tuple[str, str]) -> None:
    ours, theirs = (text.replace("from {}", name) for text, name in zip(pair, ('from "admin/gen"', "from gen"), strict=True))
    expected = [as_json(row) for row in connection.execute(theirs).fetchall()]
    answer = session.post(server.url + API, json={"query": ours}, timeout=60)
    assert answer.status_code == 200, f"{ours}\n{answer.text}"
    found = [list(row.values()) for row in answer.json()["data"]]
    assert same(found, expected), f"{ours}\n{theirs}\n{json.dumps(found)[:2000]}\n{json.dumps(expected)[:2000]}"


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@settings(max_examples=300, **COMMON)
@given(pair=plain_selects())
def test_selects(server: Server, session: Any, connection: Any, pair: tuple[str, str]) -> None:
    check(server, session, connection, pair)


@settings(max_examples=100, **COMMON)
@given(pair=grouped_selects())
def test_groups(server: Server, session: Any, connection: Any, pair: tuple[str, str]) -> None:
    check(server, session, connection, pair)


@settings(max_examples=40, **COMMON)
@given(pair=joined_selects())
def test_joins(server: Server, session: Any, connection: Any, pair: tuple[str, str]) -> None:
    check(server, session, connection, pair)


@settings(max_examples=60, **COMMON)
@given(pair=combined_selects())
def test_set_operations(server: Server, session: Any, connection: Any, pair: tuple[str, str]) -> None:
    check(server, session, connection, pair)


ENDS = st.one_of(st.none(), st.integers(-6, 6))


@settings(max_examples=60, **COMMON)
@given(index=st.integers(-6, 6), start=ENDS, stop=ENDS)
def test_indexes_and_slices_are_those_of_python(
    server: Server, session: Any, index: int, start: int | None, stop: int | None
) -> None:
    part = f"{'' if start is None else start}:{'' if stop is None else stop}"
    query = f'select l[{index}] as one, l[{part}] as some, l[?] as same from "admin/gen"'
    answer = session.post(server.url + API, json={"query": query, "params": [index]}, timeout=60)
    assert answer.status_code == 200, answer.text
    for row, found in zip(ROWS, answer.json()["data"], strict=True):
        values = row["l"]
        one = values[index] if values is not None and -len(values) <= index < len(values) else None
        assert found == {"one": one, "some": None if values is None else values[start:stop], "same": one}
