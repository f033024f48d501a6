"""Texts become trees, with the place of every node, and the same text is read once."""

import sys
from typing import Any

import numpy as np
import pytest

from engine.tasks.query import allowed, tql
from engine.tasks.query.refusals import Refused
from engine.tasks.query.tql import ParsedText, Trees, check_parameters, embedded_text, parse
from engine.tasks.query.tree import (
    Array,
    Between,
    Binary,
    Call,
    Case,
    Cast,
    Column,
    Combination,
    Constant,
    In,
    Index,
    InQuery,
    Interval,
    IsNull,
    Join,
    Junction,
    Lifted,
    Like,
    LimitBy,
    Order,
    Output,
    Parameter,
    Select,
    Slice,
    Star,
    Subquery,
    Table,
    Unary,
)
from tests.engine.tasks.query.texts import expression, refusal, tree

A, B, C, X = Column("a"), Column("b"), Column("c"), Column("x")
ONE, TWO = Constant(1), Constant(2)
ROWS = Table(None)


# Clauses


def test_the_query_of_the_nearest_rows() -> None:
    parsed = parse(
        'select * from (select text, cosine_similarity(embedding, ARRAY[0.5,-1]) as score from "hub://admin/facts") '
        "order by score desc limit 5",
        has_default_source=False,
    )
    score = Call("cosine_similarity", (Column("embedding"), Lifted(0)))
    inner = Select((Output(Column("text")), Output(score, "score")), Table("admin/facts"))
    outer = Select((Star(),), Subquery(inner), order_by=(Order(Column("score"), True),), limit=Constant(5))
    assert parsed.query == outer
    assert [vector.tolist() for vector in parsed.vectors] == [[0.5, -1.0]]
    assert parsed.sources == (("admin/facts", parsed.lifted.text.index('"hub')),)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("select a", Select((Output(A),), ROWS)),
        ("SELECT a AS b, c d;", Select((Output(A, "b"), Output(C, "d")), ROWS)),
        ("select distinct *, t.*", Select((Star(), Star("t")), ROWS, is_distinct=True)),
        ('select a from "o/n" as t', Select((Output(A),), Table("o/n", "t"))),
        ('select a from "hub://o/n/c/s@12" t', Select((Output(A),), Table("o/n/c/s@12", "t"))),
        ("select a from facts", Select((Output(A),), Table("facts"))),
        ('select a from "ann@site.org/n@3"', Select((Output(A),), Table("ann@site.org/n@3"))),
        ("select a from (select b) t", Select((Output(A),), Subquery(Select((Output(B),), ROWS), "t"))),
        ("select a where b", Select((Output(A),), ROWS, where=B)),
        ("select a group by b, c having x", Select((Output(A),), ROWS, group_by=(B, C), having=X)),
        (
            "select a order by b, c desc, 1 asc nulls last",
            Select((Output(A),), ROWS, order_by=(Order(B), Order(C, True), Order(ONE))),
        ),
        ("select a limit 2 offset 1", Select((Output(A),), ROWS, limit=TWO, offset=ONE)),
        ("select a offset ?", Select((Output(A),), ROWS, offset=Parameter(0))),
        ("select a limit all", Select((Output(A),), ROWS)),
        ("select a limit :n", Select((Output(A),), ROWS, limit=Parameter("n"))),
        ("select a order by b limit 1 by c", Select((Output(A),), ROWS, order_by=(Order(B),), limit_by=LimitBy(ONE, C))),
        ("(select a)", Select((Output(A),), ROWS)),
        ("(select a) limit 1", Select((Star(),), Subquery(Select((Output(A),), ROWS)), limit=ONE)),
    ],
)
def test_clauses_of_a_select(text: str, query: Any) -> None:
    assert tree(text) == query


@pytest.mark.parametrize(
    ("text", "join"),
    [
        ("join u on a = b", Join("inner", Table("u"), ((A, B),))),
        ("inner join u as v on (a == b) and (b = c)", Join("inner", Table("u", "v"), ((A, B), (B, C)))),
        ("left outer join (select a) u using (x, c)", Join("left", Subquery(Select((Output(A),), ROWS), "u"), (), ("x", "c"))),
    ],
)
def test_joins(text: str, join: Join) -> None:
    assert tree(f"select * from t {text}").joins == (join,)


def test_set_operations_go_from_left_to_right_and_intersect_goes_first() -> None:
    a, b, c = (Select((Output(column),), ROWS) for column in (A, B, C))
    assert tree("select a union select b except all select c order by 1 limit 2") == Combination(
        "except", True, Combination("union", False, a, b), c, order_by=(Order(ONE),), limit=TWO
    )
    assert tree("select a union all select b intersect select c") == Combination(
        "union", True, a, Combination("intersect", False, b, c)
    )
    assert tree("(select a union select b) union select c") == Combination("union", False, Combination("union", False, a, b), c)


def test_with_is_expanded_where_it_is_used_and_hides_datasets_of_its_name() -> None:
    named = Select((Output(A),), Table("t"))
    assert tree("with t as (select a from t), u as (select * from t) select b from u join t on x = c") == Select(
        (Output(B),),
        Subquery(Select((Star(),), Subquery(named, "t")), "u"),
        (Join("inner", Subquery(named, "t"), ((X, C),)),),
    )
    assert tree("select * from (with t as (select a from t) select b from t) join t on x = c").joins[0].right == Table("t")


def test_names_are_as_written_and_keywords_have_any_case() -> None:
    assert tree('SeLeCt "Select", Ä, text, date, "a ""b"".c", t."x y" As Limit FROM "T"') == Select(
        (
            Output(Column("Select")),
            Output(Column("Ä")),
            Output(Column("text")),
            Output(Column("date")),
            Output(Column('a "b".c')),
            Output(Column("x y", "t"), "Limit"),
        ),
        Table("T"),
    )


def test_words_that_only_look_like_keywords_are_names() -> None:
    """The long s is an S in upper case, and the dotless i an I."""
    assert tree("select ſelect, lımit") == Select((Output(Column("ſelect")), Output(Column("lımit"))), ROWS)
    for word in [
        "any",
        "array",
        "cache",
        "first",
        "format",
        "index",
        "interval",
        "key",
        "map",
        "row",
        "rows",
        "sample",
        "struct",
        "table",
        "top",
        "view",
        "window",
    ]:
        assert tree(f"select {word}, t.{word} from {word}").source == Table(word)


def test_comments_of_three_kinds_are_blanks() -> None:
    assert tree("select/* from x */a -- b\nfrom # c ' \r\n t/**/where/*;*/b") == Select((Output(A),), Table("t"), where=B)


# Expressions


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", ONE),
        ("1.5e3", Constant(1500.0)),
        (".5", Constant(0.5)),
        ("-9223372036854775808", Constant(-(2**63))),
        ("- -1", Unary("-", Constant(-1))),
        ("+a", A),
        ("'it''s'", Constant("it's")),
        ("'a\\b'", Constant("a\\b")),
        ("null", Constant(None)),
        ("TRUE", Constant(True)),
        ("false", Constant(False)),
        ("t.a", Column("a", "t")),
        ('"hub://o/n".a', Column("a", "o/n")),
        ("?", Parameter(0)),
        ("$2", Parameter(1)),
        (":n", Parameter("n")),
        ("$n", Parameter("n")),
        ("a + b * c", Binary("+", A, Binary("*", B, C))),
        ("a - b - c", Binary("-", Binary("-", A, B), C)),
        ("a * b ^ c ^ 2", Binary("*", A, Binary("^", Binary("^", B, C), TWO))),
        ("-a ^ 2", Binary("^", Unary("-", A), TWO)),
        ("a / b % c", Binary("%", Binary("/", A, B), C)),
        ("a || b || c", Binary("||", Binary("||", A, B), C)),
        ("a == b", Binary("=", A, B)),
        ("a <> b", Binary("!=", A, B)),
        ("a != b", Binary("!=", A, B)),
        ("a <= b", Binary("<=", A, B)),
        ("(a > b) = c", Binary("=", Binary(">", A, B), C)),
        ("a and b and c", Junction("and", (A, B, C))),
        ("a or b and c or x", Junction("or", (A, Junction("and", (B, C)), X))),
        ("not a = b and c", Junction("and", (Unary("not", Binary("=", A, B)), C))),
        ("a between 1 and 2 and b", Junction("and", (Between(A, ONE, TWO), B))),
        ("a not between 1 and 2", Unary("not", Between(A, ONE, TWO))),
        ("a in (1, 2)", In(A, (ONE, TWO))),
        ("a not in (1)", Unary("not", In(A, (ONE,)))),
        ("a in ?", In(A, (Parameter(0),))),
        ("a in (:list)", In(A, (Parameter("list"),))),
        ("a in ARRAY[1, 2]", In(A, (Lifted(0),))),
        ("a in ARRAY['x', ?]", In(A, (Array((Constant("x"), Parameter(0))),))),
        ("a in (select b)", InQuery(A, Select((Output(B),), ROWS))),
        ("a not in (select b limit 1)", Unary("not", InQuery(A, Select((Output(B),), ROWS, limit=ONE)))),
        ("a is null", IsNull(A)),
        ("a is not null", Unary("not", IsNull(A))),
        ("a = b is null", IsNull(Binary("=", A, B))),
        ("a like 'b%'", Like(A, Constant("b%"), False)),
        ("a not ilike b", Unary("not", Like(A, B, True))),
        ("case when a then b end", Case(None, ((A, B),), None)),
        ("case x when 1 then b when 2 then c else a end", Case(X, ((ONE, B), (TWO, C)), A)),
        ("cast(a as double)", Cast(A, "double")),
        ("a::int::text", Cast(Cast(A, "int"), "text")),
        ("-1::BIGINT", Unary("-", Cast(ONE, "bigint"))),
        ("date '2024-02-29'", Cast(Constant("2024-02-29"), "date")),
        ("a - INTERVAL '3' day", Binary("-", A, Interval(3, "day"))),
        ("interval 2 hours", Interval(2, "hour")),
        ("interval '-1 month'", Interval(-1, "month")),
        ("a[0]", Index(A, (Constant(0),))),
        ("a[-1]", Index(A, (Constant(-1),))),
        ("a[1:2]", Index(A, (Slice(ONE, TWO),))),
        ("a[:-1]", Index(A, (Slice(None, Constant(-1)),))),
        ("a[:]", Index(A, (Slice(None, None),))),
        ("a[:,0]", Index(A, (Slice(None, None), Constant(0)))),
        ("a[b:c]", Index(A, (Slice(B, C),))),
        ("a[:b]", Index(A, (Parameter("b"),))),
        ("a['k'][b][0]", Index(Index(Index(A, (Constant("k"),)), (B,)), (Constant(0),))),
        ("ARRAY[a, 1, [b]]", Array((A, ONE, Array((B,))))),
        ("ARRAY[[1,2],[3,4]]", Lifted(0)),
        ("count(*)", Call("count", is_star=True)),
        ("COUNT(DISTINCT a)", Call("count", (A,), is_distinct=True)),
        ("any(a > 1)", Call("any", (Binary(">", A, ONE),))),
        ("All(a)", Call("all", (A,))),
        ("row_number()", Call("row_number")),
        ("embed('x', :model)", Call("embed", (Constant("x"), Parameter("model")))),
    ],
)  # fmt: skip
def test_expressions(text: str, found: Any) -> None:
    assert expression(text) == found


@pytest.mark.parametrize("name", sorted(allowed.FUNCTIONS - {"embed"}))
def test_every_function_is_known_in_any_case(name: str) -> None:
    assert expression(f"{name.upper()}(a)") == Call(name, (A,))


def test_a_long_chain_of_and_or_or_is_one_node() -> None:
    text = "select a where " + " or ".join(["(a and b and c)"] * 400)
    assert tree(text).where == Junction("or", (Junction("and", (A, B, C)),) * 400)


# Places


def test_every_node_has_the_place_where_it_begins() -> None:
    text = "select not a, -b, case when c then x end, cast(a as int), b + 1, ? from t where ARRAY[1] = ARRAY[2] and x in (1)"
    parsed = parse(text, has_default_source=False)
    query: Any = parsed.query
    starts = ["not", "-b", "case", "cast", "b +", "?"]
    assert [output.at for output in query.outputs] == [text.index(start) for start in starts]
    assert parsed.offset_as_sent(query.where.conditions[0].at) == text.index("ARRAY[1]")
    assert parsed.offset_as_sent(query.where.conditions[0].right.at) == text.index("ARRAY[2]")
    assert parsed.offset_as_sent(query.where.conditions[1].at) == text.index("x in")


def test_a_refusal_after_a_vector_has_its_place_in_the_text_as_sent() -> None:
    assert refusal(f"select ARRAY[{','.join(['1.25'] * 384)}], ¦foo(a) from t").code == "unknown_function"
    assert refusal("select ARRAY[1, 2, 3] from t where¦ ").code == "syntax_error"


# Sources


def test_without_a_dataset_in_the_request_a_select_has_a_from() -> None:
    assert refusal("select * from t join (¦select a) u on a = b", has_default_source=False).code == "syntax_error"
    parsed = parse("select a from t union select b", has_default_source=True)
    assert parsed.sources == (("t", 14), (tql.DEFAULT_SOURCE, 22))


def test_sources_are_listed_once_in_the_order_of_the_text() -> None:
    text = 'select a from "hub://o/b" join "o/a" on a = b where a in (select c from "o/b")'
    sources = parse(text, has_default_source=False).sources
    assert sources == (("o/b", text.index('"hub')), ("o/a", text.index('"o/a')))


# Kept trees


def test_the_same_text_with_other_numbers_is_not_parsed_again() -> None:
    trees = Trees()
    first = parse("select l2_norm(v, ARRAY[1, 2]) as d from t where a = ?", has_default_source=False, trees=trees)
    second = parse("select l2_norm(v, ARRAY[-0.25,1e3,7]) as d from t where a = ?", has_default_source=False, trees=trees)
    assert second.query is first.query
    assert np.array_equal(second.vectors[0], np.array([-0.25, 1e3, 7], dtype=np.float32))
    [(_, at)] = second.sources
    assert second.offset_as_sent(at or 0) == "select l2_norm(v, ARRAY[-0.25,1e3,7]) as d from t".index("t", 38)


def test_reading_a_text_leaves_the_limit_of_calls_as_it_was() -> None:
    limit = sys.getrecursionlimit()
    tree("select " + "(" * 60 + "a" + ")" * 60)
    refusal("select " + "not a is not " * 1000)
    assert sys.getrecursionlimit() == limit


def test_the_newest_256_trees_are_kept_and_long_texts_are_not() -> None:
    trees = Trees()

    def kept(text: str) -> Any:
        return parse(text, has_default_source=True, trees=trees).query

    def query(i: int) -> Any:
        return kept(f"select a{i}")

    first, second = query(0), query(1)
    for i in range(2, tql.NUM_KEPT_TREES):
        query(i)
    assert query(0) is first
    query(tql.NUM_KEPT_TREES)
    assert query(0) is first
    assert query(1) is not second
    long = f"select '{'x' * tql.MAX_KEPT_CHARACTERS}'"
    assert kept(long) is not kept(long)


def test_a_text_is_read_anew_where_it_may_lack_a_from() -> None:
    trees = Trees()
    assert parse("select kept", has_default_source=True, trees=trees)
    with pytest.raises(Refused) as caught:
        parse("select kept", has_default_source=False, trees=trees)
    assert (caught.value.code, caught.value.at) == ("syntax_error", 0)


# Parameters


def parsed(text: str) -> ParsedText:
    return parse(text, has_default_source=True)


@pytest.mark.parametrize("text", ["select (¦)", "select a, (¦) from t", "select a group by (¦)", "select a where f((¦))"])
def test_brackets_around_nothing_are_refused_where_they_close(text: str) -> None:
    assert refusal(text).code == "syntax_error"


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("select a", None),
        ("select a", []),
        ("select a", {}),
        ("select ?, ?", [1, 2]),
        ("select $2, $1, $2", [1, None]),
        ("select :x, $y, :x", {"x": 1, "y": 2}),
        ("with t as (select ? from u) select * from t where a = ?", [1, 2]),
    ],
)
def test_parameters_that_fit(text: str, params: Any) -> None:
    check_parameters(parsed(text), params)


@pytest.mark.parametrize(
    ("text", "params", "at", "message"),
    [
        ("select ?, ?", [1], 10, "Parameter 2 has no value."),
        ("select ?", None, 7, "Parameter 1 has no value."),
        ("select $2", [1, 2], None, "Parameter 1 is not used in the text."),
        ("select ?", [1, 2], None, "Parameter 2 is not used in the text."),
        ("select :name", {"nome": 1}, 7, 'Parameter "name" has no value.'),
        ("select :x", {"x": 1, "y": 2}, None, 'Parameter "y" is not used in the text.'),
        ("select :x", [1], 7, "The parameters of this text are an object."),
        ("select ?", {"x": 1}, 7, "The parameters of this text are a list."),
        ("select ?, :x", [1], 10, "A text has either ? and $1, or names."),
    ],
)
def test_parameters_that_do_not_fit(text: str, params: Any, at: int | None, message: str) -> None:
    with pytest.raises(Refused) as caught:
        check_parameters(parsed(text), params)
    assert (caught.value.code, caught.value.at, caught.value.message) == ("bad_param", at, message)


def test_texts_to_embed_come_from_the_text_or_from_parameters() -> None:
    found = parsed("select dot(v, embed('bees', ?)), l2_norm(v, embed(?)) where a in (select b order by l2_norm(v, embed('x')))")
    params = ["MiniLM", "honey"]
    assert [embedded_text(call, params) for call in found.texts] == [("bees", "MiniLM"), ("honey", None), ("x", None)]
    with pytest.raises(Refused) as caught:
        embedded_text(found.texts[1], ["MiniLM", 3])
    assert (caught.value.code, caught.value.at) == ("bad_param", 44)
    with pytest.raises(Refused) as caught:
        embedded_text(found.texts[1], ["MiniLM", "x" * 32769])
    assert caught.value.code == "invalid_parameter"


@pytest.mark.parametrize("text", ["", "x" * 32769])
def test_a_text_that_no_model_embeds_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Refused, match="A text to embed") as written:
        parsed(f"select dot(v, embed('{text}'))")
    with pytest.raises(Refused, match="A text to embed") as sent:
        embedded_text(parsed("select dot(v, embed(?))").texts[0], [text])
    assert [(one.value.code, one.value.at) for one in (written, sent)] == [("invalid_parameter", 14)] * 2
