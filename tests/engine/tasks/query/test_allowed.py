"""What is refused: with a code, a place and a hint, and fast. `¦` in a text marks the place of its refusal."""

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from engine.tasks.query import allowed, functions
from engine.tasks.query.refusals import Refused
from engine.tasks.query.tql import parse
from tests.engine.tasks.query.texts import expression, refusal, tree


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        # What is no query
        ("", "syntax_error", "Begin with SELECT."),
        (" -- x\n", "syntax_error", "Begin with SELECT."),
        ("select 1; ¦select 2", "one_statement", None),
        ("select 1;; ¦drop table t", "one_statement", None),
        ("¦drop table t", "only_select", None),
        ("¦copy t to 'x'", "only_select", None),
        ("¦attach 'x'", "only_select", None),
        ("¦pragma x", "only_select", None),
        ("¦set x = 1", "only_select", None),
        ("¦selct a from t", "only_select", "select"),
        ("¦1 + 1", "only_select", None),
        ("(¦1)", "only_select", None),
        ("with a as (¦insert into t select 1) select 1", "syntax_error", None),
        ("with a as (select 1) ¦delete from t", "syntax_error", None),
        # Traps of the parser
        ("¦from t select a", "unsupported", "Begin with SELECT."),
        ("select * from (¦from t)", "unsupported", "Begin with SELECT."),
        ("with a as (¦from t) select 1", "unsupported", "Begin with SELECT."),
        ("select 1 union ¦from t", "unsupported", "Begin with SELECT."),
        ("¦table t", "unsupported", "SELECT * FROM"),
        ("select 1 union all ¦table t", "unsupported", "SELECT * FROM"),
        ("select a¦, from t", "syntax_error", None),
        ("select a¦, ", "syntax_error", None),
        ("select f(a¦,)", "syntax_error", None),
        ("select a in (1¦,,2)", "syntax_error", None),
        ("select ¦, a", "syntax_error", None),
        ("select ¦from t", "syntax_error", None),
        ("select distinct ¦from t", "syntax_error", None),
        ("select¦", "syntax_error", None),
        ("select ¦as a from t", "syntax_error", None),
        ("select all ¦as struct a from t", "syntax_error", None),
        ("select a ¦?", "syntax_error", None),
        ("select a as ¦:x from t", "syntax_error", None),
        ("select a ¦ARRAY[1]", "syntax_error", None),
        ("select a from t ¦?", "syntax_error", None),
        ("with ¦? as (select 1) select 1", "syntax_error", None),
        ("select a from t join u using (¦?)", "syntax_error", None),
        ("¦select a union by name select b", "unsupported", None),
        ("¦select a from t left union select b", "unsupported", None),
        ("select ¦a at time zone 'x'", "unsupported", None),
        ("select * from (select¦)", "syntax_error", None),
        ("select a between 1 ¦2", "syntax_error", None),
        ("select case a ¦b end", "syntax_error", None),
        ("select case when a ¦b end", "syntax_error", None),
        ("select a from t ¦* where b", "syntax_error", None),
        ("select a from t offset 1 ¦rows", "syntax_error", None),
        ("with a ¦(select 1) select 1", "unsupported", None),
        ("select 'x' ¦'y'", "syntax_error", "||"),
        ("select ¦0x10", "syntax_error", None),
        ("select ¦. 2.5", "syntax_error", None),
        ("select ¦1_000", "syntax_error", None),
        ("select a ¦-> b", "unsupported", None),
        ("select f(a ¦=> b)", "unsupported", None),
        ("select * except (¦a) from t", "syntax_error", None),
        ("select a as ¦'x' from t", "syntax_error", None),
        ("select a as ¦1 from t", "syntax_error", None),
        ("select ¦[1, 2]", "syntax_error", None),
        ("select a in ¦[1, 2]", "syntax_error", None),
        ("select a in ¦b", "unsupported", "contains"),
        ("select ¦a in ()", "syntax_error", None),
        ("select ¦(a", "syntax_error", None),
        ("select a¦)", "syntax_error", None),
        ("select (a¦]", "syntax_error", None),
        ("select ¦case when a then b", "syntax_error", None),
        ("select a from t where¦", "syntax_error", None),
        ("select a from t a ¦b", "syntax_error", None),
        ("select a from t limit 1 ¦limit 2", "syntax_error", None),
        # What others have
        ("select ¦top 5 a from t", "unsupported", "LIMIT"),
        ("select distinct ¦top 5 a from t", "unsupported", "LIMIT"),
        ("select a from t ¦sample by b", "unsupported", None),
        ("select a from t where b ¦sample by b", "syntax_error unsupported", None),
        ("select a ¦ungroup by b", "unsupported", None),
        ("select a from t ¦expand by 1 2", "unsupported", None),
        ("select a limit 5 ¦percent", "unsupported", "LIMIT"),
        ("select a limit 5 ¦%", "unsupported", "LIMIT"),
        ("select a limit 1¦, 2", "unsupported", "LIMIT b OFFSET a"),
        ("select a from t ¦fetch first 5 rows only", "unsupported", "LIMIT"),
        ("select a[1:2¦:3]", "unsupported", "start:stop"),
        ("select a[¦::2]", "unsupported", "start:stop"),
        ("select a[1¦::2]", "unsupported", "start:stop"),
        ("select sum(a) ¦over (partition by b)", "unsupported", "LIMIT n BY"),
        ("select row_number() ¦over w", "unsupported", "LIMIT n BY"),
        ("select count(*) ¦filter (where a)", "unsupported", "CASE"),
        ("select a where ¦exists (select 1)", "unsupported", "IN (SELECT"),
        ("select (¦select 1)", "unsupported", "IN (SELECT"),
        ("select a = (¦select b)", "unsupported", "IN (SELECT"),
        ("select abs(¦select b)", "unsupported", "IN (SELECT"),
        ("with ¦recursive a as (select 1) select 1", "unsupported", None),
        ("select a from t ¦cross join u", "unsupported", "LEFT JOIN"),
        ("select a from t ¦right join u on a = b", "unsupported", "LEFT JOIN"),
        ("select a from t ¦full outer join u on a = b", "unsupported", "LEFT JOIN"),
        ("select a from t ¦natural join u", "unsupported", "LEFT JOIN"),
        ("select a from t ¦left semi join u on a = b", "unsupported", "LEFT JOIN"),
        ("select a from t, ¦u", "unsupported", "JOIN"),
        ("select a from t join ¦u", "syntax_error", None),
        ("select a from t join u on ¦a < b", "unsupported", "WHERE"),
        ("select a from t join u on ¦a = b or b = c", "unsupported", "WHERE"),
        ("select distinct ¦on (a) b", "unsupported", "LIMIT n BY"),
        ("¦values (1)", "unsupported", None),
        ("select a from (¦values (1)) t", "unsupported", None),
        ("select a from ¦read_csv('x')", "unsupported", "hub://org/name"),
        ("select a from ¦'hub://o/n'", "unsupported", "double quotes"),
        ("select a from ¦?", "unsupported", None),
        ("select a from t as u¦(b)", "unsupported", "AS"),
        ("select a ¦<-> b", "unsupported", "l2_norm(a, b)"),
        ("select a ¦<#> b", "unsupported", "dot(a, b)"),
        ("select a ¦into b from t", "unsupported", None),
        ("select a from t ¦for update", "unsupported", None),
        ("select ¦/*+ hint */ a", "unsupported", None),
        ("select a order by b nulls ¦first", "unsupported", "last"),
        ("select ¦a.b.c", "unsupported", "table.column"),
        ("select a is ¦true", "unsupported", "="),
        ("select a is distinct from b", "unsupported", "IS NULL"),
        ("select a like b escape 'c'", "unsupported", "backslash"),
        ("select (¦a, b)", "unsupported", None),
        ("select a limit 1 by b, ¦c", "unsupported", None),
        ("select a order by ¦b union select c", "syntax_error", "parentheses"),
        # Functions, types, values
        ("select ¦foo(a)", "unknown_function", None),
        ("select ¦cosine_similarty(a, b)", "unknown_function", "cosine_similarity"),
        ("select ¦read_csv('x')", "unknown_function", None),
        ("select ¦maxsim(a, b)", "unknown_function", "known in TQL, not offered here"),
        ("select ¦random()", "unknown_function", "known in TQL, not offered here"),
        ("select sum(¦*)", "syntax_error", None),
        ("select sum(¦distinct a)", "unsupported", None),
        ("select cast(a as ¦blob)", "unsupported", "bigint"),
        ("select a::¦varchar(10)", "unsupported", "bigint"),
        ("select ¦interval '1' fortnight", "syntax_error", "day"),
        ("select ¦interval '1 day 2 hours'", "syntax_error", "day"),
        ("select ¦9223372036854775808", "arithmetic_error", None),
        ("select ¦1e999", "arithmetic_error", None),
        ("select a limit ¦-1", "invalid_parameter", None),
        ("select a limit ¦1.5", "invalid_parameter", None),
        ("select a limit ¦b", "invalid_parameter", None),
        ("select a offset ¦'1'", "invalid_parameter", None),
        ("select ¦ARRAY[]", "bad_vector", None),
        ("select ARRAY[1, ¦1e999]", "bad_vector", None),
        ("select ¦ARRAY[[1],[1,2]]", "bad_vector", None),
        ("select ¦embed(a)", "type_mismatch", "embed('text')"),
        ("select ¦embed()", "type_mismatch", "embed('text')"),
        ("select ¦embed('" + "x" * 32769 + "')", "invalid_parameter", None),
        ("select :¦__x", "bad_param", None),
        ("with a as (select 1), ¦a as (select 2) select 1", "syntax_error", None),
        # Names of sources
        ('select a from ¦"/etc/passwd"', "bad_name", None),
        ('select a from ¦"s3://bucket/x"', "bad_name", None),
        ('select a from ¦"hub://../x"', "bad_name", None),
        ('select a from ¦"hub://o/../x"', "bad_name", None),
        ('select a from ¦"hub://@o"', "bad_name", None),
        ('select a from ¦"hub://_o/n"', "bad_name", None),
        ('select a from ¦"hub://o/n@x"', "bad_name", None),
        ('select a from ¦"hub://o/n@"', "bad_name", None),
        ('select a from ¦"hub://o/n/a/b/c"', "bad_name", None),
        ('select a from ¦"o/n/"', "bad_name", None),
        ('select a from ¦"o/n\n"', "bad_name", None),
        ('select a from ¦"hub://hub://o/n"', "bad_name", None),
        ("select a from ¦information_schema.tables", "bad_name", None),
        ('select a from ¦"x.csv/../y"', "bad_name", None),
    ],
)  # fmt: skip
def test_refusals_have_a_code_a_place_and_a_hint(text: str, code: str, hint: str | None) -> None:
    mark = text.find(":¦__x")
    refused = refusal(text.replace(":¦__x", "¦:__x") if mark >= 0 else text)
    assert refused.code in code.split()
    if hint is not None:
        assert hint in (refused.hint or "")
    if refused.code == "bad_name":
        assert refused.message == "A source is hub://org/name."
    assert len(refused.message) < 200


# What may hang on a node


def _with_argument(kind: Any, name: str) -> Any:
    return kind(**{name: exp.Identifier(this="x")})


@pytest.mark.parametrize("kind", sorted(allowed.ARGUMENTS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_argument_that_is_not_listed_is_refused(kind: Any) -> None:
    for name in set(kind.arg_types) - allowed.ARGUMENTS[kind]:
        with pytest.raises(Refused) as caught:
            allowed.check_tree(_with_argument(kind, name))
        assert caught.value.code == "unsupported"


def test_every_node_that_is_not_listed_is_refused() -> None:
    for kind in vars(exp).values():
        if isinstance(kind, type) and issubclass(kind, exp.Expression) and kind not in allowed.ARGUMENTS:
            with pytest.raises(Refused):
                allowed.check_tree(exp.Paren(this=kind()))


# Limits


@pytest.mark.parametrize(
    ("opening", "closing"),
    [("(", ")"), ("abs(", ")"), ("a in (", ")"), ("case when ", " then b end"), ("ARRAY[a, ", "]"), ("b[", "]"), ("not ", ""),
     ("- ", ""), ("cast(", " as int)"), ("a + (", ")")],
)  # fmt: skip
def test_64_levels_are_read_and_more_are_refused(opening: str, closing: str) -> None:
    for depth in (50, 62):
        assert expression(opening * depth + "a" + closing * depth)
    for depth in (65, 1000):
        assert refusal("select " + opening * depth + "a" + closing * depth).code == "too_complex"


@pytest.mark.parametrize("unit", ["+ a", "|| a", "::int", "[0]", "^ a", "union select a", "intersect select a", "= a"])
def test_a_chain_is_as_deep_as_it_is_long(unit: str) -> None:
    assert tree("select a " + f"{unit} " * 40)
    assert refusal("select a " + f"{unit} " * 100).code == "too_complex"
    assert refusal("select a " + f"{unit} " * 1300).code == "too_complex"


def test_subselects_nest_to_the_limit() -> None:
    assert tree("select * from (" * 60 + "select a" + ")" * 60)
    assert refusal("select * from (" * 70 + "select a" + ")" * 70).code == "too_complex"


def test_with_cannot_double_a_tree_at_each_level() -> None:
    parts = ["a0 as (select a, b, c)"] + [
        f"a{i} as (select * from a{i - 1} union all select * from a{i - 1})" for i in range(1, 40)
    ]
    refused = refusal(f"with {', '.join(parts)} select * from a39")
    assert (refused.code, "4,096 nodes" in refused.message) == ("too_complex", True)


def test_with_cannot_make_a_tree_deeper_than_the_limit() -> None:
    parts = ["a0 as (select a)"] + [f"a{i} as (select * from a{i - 1})" for i in range(1, 80)]
    assert tree(f"with {', '.join(parts[:60])} select * from a59")
    assert "64 levels" in refusal(f"with {', '.join(parts)} select * from a79").message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("select " + ", ".join(["a"] * 257), "256 columns"),
        ("select " + ", ".join(["embed('x')"] * 17), "16 calls"),
        ("select " + ", ".join(["ARRAY[1]"] * 65), "64 vectors"),
        ("select a from t0 " + " ".join(f"join t{i} on a = b" for i in range(1, 17)), "16 datasets"),
        ("select a where a in (" + "1," * 4000 + "1)", "4,096 tokens"),
    ],
)
def test_limits_are_named(text: str, named: str) -> None:
    refused = refusal(text)
    assert refused.code == "too_complex"
    assert named in refused.message


WORDS = [
    "select", "from", "where", "group", "by", "order", "limit", "offset", "with", "as", "a", "b", "t.x", "(", ")", "[", "]",
    ",", "*", "+", "-", "/", "%", "^", "||", "=", "!=", "<", "::", "int", "'x'", "1", "2.5", "?", "case", "when", "then",
    "else", "end", "not", "in", "is", "null", "like", "between", "and", "or", "union", "all", "distinct", "join", "on",
    "using", "interval", "day", "date", "cast(", "count(", "any(", "ARRAY[1]", "ARRAY[", ":", ".", "having", "desc", "nulls",
    "first", ";", "exists", "over", "left", '"q"', "lateral", "values", "into", "for", "update", "top", "percent", "--", "/*",
    "#", "é",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=40), st.booleans())
def test_no_text_gives_anything_but_a_tree_or_a_refusal(words: list[str], is_joined: bool) -> None:
    text = "select " + ("" if is_joined else " ").join(words)
    try:
        parsed: Any = parse(text, has_default_source=True)
    except Refused as refused:
        parsed = refused
        if refused.at is not None:
            refused.report(text)
            parsed = 0 <= refused.at <= len(text)
    assert parsed


@pytest.mark.parametrize("seed", range(8))
def test_a_hostile_text_is_refused_fast(seed: int) -> None:
    generator = random.Random(seed)
    unit = " ".join(generator.choices(WORDS[:-4], k=generator.randint(1, 4))) + " "
    for size in (4000, 20_000, 1024 * 1024):
        started_at = time.monotonic()
        with pytest.raises(Refused):
            parse("select a + " + unit * (size // len(unit)) + "(", has_default_source=True)
        assert time.monotonic() - started_at < 1


def test_every_function_that_is_let_through_has_a_meaning() -> None:
    assert functions.BINDERS.keys() == allowed.FUNCTIONS
