"""Tokens and vectors of a text: what was lifted is what was written, and every place is found again in the text as sent."""

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tasks.query.lifting import MAX_TOKENS, MAX_VECTORS, LiftedText, lift
from engine.tasks.query.refusals import Refused


def refusal(text: str) -> Refused:
    with pytest.raises(Refused) as caught:
        lift(text)
    return caught.value


def kinds(text: str) -> list[tuple[str, str | int]]:
    """The kind of each token with its text, or its key."""
    return [(token.kind, token.key if token.kind in ("parameter", "vector") else token.text) for token in lift(text).tokens]


# Vectors


@pytest.mark.parametrize(
    ("array", "numbers"),
    [
        ("ARRAY[1,2,3]", [1, 2, 3]),
        ("array [ 1 , -2.5e-3,\n+4 ]", [1, -2.5e-3, 4]),
        ("Array\n[.5, 1., 007, -0]", [0.5, 1.0, 7, 0]),
        ("ARRAY[[1,2],[3,4]]", [[1, 2], [3, 4]]),
        ("ARRAY [ [ 1 ] , [ +2 ] ]", [[1], [2]]),
        ("ARRAY[16777217]", [16777217]),
    ],
)
def test_an_array_of_numbers_is_lifted_as_float32_and_kept_as_written(array: str, numbers: list[object]) -> None:
    lifted = lift(f"select {array} from t")
    assert lifted.text == "select :__v0 from t"
    assert lifted.vectors[0].dtype == np.float32
    assert np.array_equal(lifted.vectors[0], np.array(numbers, dtype=np.float32))
    assert lifted.numbers == (numbers,)


@pytest.mark.parametrize(
    "array",
    [
        "ARRAY['a', 'b']",
        "ARRAY[1, ?]",
        "ARRAY[1,]",
        "ARRAY[1 2]",
        "ARRAY[1-2]",
        "ARRAY[1, NaN]",
        "ARRAY[[1],?]",
        "ARRAY[x]",
    ],
)
def test_an_array_that_holds_anything_else_stays_in_the_text(array: str) -> None:
    text = f"select {array} from t"
    lifted = lift(text)
    assert (lifted.text, lifted.vectors) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "select 'ARRAY[1]'",
        'select "ARRAY[1]"',
        "select /* ARRAY[1] */ a",
        "select a -- ARRAY[1]",
        "select a # ARRAY[1]",
        "my_array[1]",
        "t.array[1]",
    ],
)
def test_only_the_word_array_is_lifted(text: str) -> None:
    assert not lift(text).vectors


@pytest.mark.parametrize(
    "array",
    [
        "ARRAY[]",
        "ARRAY[ ]",
        "ARRAY[[1],[1,2]]",
        "ARRAY[[]]",
        "ARRAY[1,[2]]",
        "ARRAY[[1],2]",
        "ARRAY[[[1]]]",
        "ARRAY[[1,2],[3,[4]]]",
    ],
)
def test_numbers_that_are_no_vector_and_no_matrix_are_refused_at_their_array(array: str) -> None:
    refused = refusal(f"select {array}")
    assert (refused.code, refused.at) == ("bad_vector", 7)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("select ARRAY[1,1e999]", 15),
        ("select ARRAY[1, -1e39, 2]", 16),
        ("select ARRAY[[1],[1e40]]", 18),
        (f"select ARRAY[{'9' * 5000}]", 13),
    ],
)
def test_a_number_past_float32_is_refused_at_its_place(text: str, at: int) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("bad_vector", at)


def test_a_text_has_at_most_64_vectors() -> None:
    assert len(lift(",".join(["ARRAY[1]"] * MAX_VECTORS)).vectors) == MAX_VECTORS
    refused = refusal(",".join(["ARRAY[1]"] * (MAX_VECTORS + 1)))
    assert (refused.code, refused.at) == ("too_complex", 9 * MAX_VECTORS)


# Tokens


def test_strings_names_and_comments_hide_what_is_in_them() -> None:
    text = 'a \'it\'\'s; -- "x"\' "say ""hi"" /*" /* \' " ** */ b -- ; \'\nc # "\r\nd /**/ \'/*\' e'
    assert kinds(text) == [
        ("word", "a"),
        ("string", 'it\'s; -- "x"'),
        ("name", 'say "hi" /*'),
        ("word", "b"),
        ("word", "c"),
        ("word", "d"),
        ("string", "/*"),
        ("word", "e"),
    ]


def test_block_comments_do_not_nest() -> None:
    assert kinds("/* /* */ a") == [("word", "a")]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("a 'b", 2),
        ("a 'b''", 2),
        ('a "b', 2),
        ("a /* b", 2),
        ("a /*/ b", 2),
        ("a \0", 2),
        ("'\0'", 1),
        ("a ;€", 3),
        ("a ~ b", 2),
        ("a & b", 2),
        ("{a}", 0),
        ("`a`", 0),
        ("a \\ b", 2),
        ("@a", 0),
        ('a ""', 2),
        ("a !b", 2),
    ],
)
def test_what_is_no_token_is_refused_at_its_place(text: str, at: int) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("syntax_error", at)


@pytest.mark.parametrize(
    ("text", "at"),
    [("a 0x10", 2), ("a 1_000", 2), ("a 1e", 2), ("a 1.5é", 2), ("a.5", 1), ("1.5.2", 3), ("(a)5", 3), ("a[1]5", 4), ("a$b", 1)],
)
def test_a_number_has_nothing_glued_to_it(text: str, at: int) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("syntax_error", at)


@pytest.mark.parametrize(
    ("text", "at", "hint"),
    [
        ("a <-> b", 2, "l2_norm(a, b)"),
        ("a <=> b", 2, "cosine_similarity(a, b)"),
        ("a <#> b", 2, "dot(a, b)"),
        ("a -> 'b'", 2, "['key']"),
        ("a ->> 'b'", 2, "['key']"),
        ("select /*+ x */ a", 7, "without the +"),
    ],
)
def test_operators_of_others_are_refused_with_a_hint(text: str, at: int, hint: str) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("unsupported", at)
    assert hint in (refused.hint or "")


@pytest.mark.parametrize(("text", "at"), [("'x' 'y'", 4), ("'x' /* */ 'y'", 10)])
def test_strings_are_not_joined_by_standing_beside_each_other(text: str, at: int) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at, refused.hint) == ("syntax_error", at, "Join them with ||.")


@pytest.mark.parametrize("text", ["select x'10'", "select N'a'", "select e'a'"])
def test_a_string_has_no_prefix(text: str) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("unsupported", 7)


# Parameters


def test_parameters_have_places_from_0_or_names() -> None:
    assert kinds("? $1 ? $12 :name $name :größe") == [("parameter", key) for key in (0, 0, 1, 11, "name", "name", "größe")]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a[:n]", ["n"]),
        ("a[1:n]", []),
        ("a[b:n]", []),
        ("a[b: :n]", ["n"]),
        ("a[1:$2]", [1]),
        ("a[:2]", []),
        ("a[:,:n]", ["n"]),
        ("a[f(:n):m]", ["n"]),
        ("ARRAY[:n, :m]", ["n", "m"]),
        ("a[case when :n then 1 end]", ["n"]),
    ],
)
def test_a_colon_between_brackets_parts_a_slice_or_begins_a_parameter(text: str, keys: list[object]) -> None:
    assert [token.key for token in lift(text).tokens if token.kind == "parameter"] == keys


@pytest.mark.parametrize("text", ["a :__v0", "a $__x", "a $0", "a $1a", "a $99999"])
def test_names_of_parameters_that_cannot_be(text: str) -> None:
    refused = refusal(text)
    assert (refused.code, refused.at) == ("bad_param", 2)


# Places


def together(lifted: LiftedText) -> str:
    """The lifted text with its vectors put back, as SQL."""
    text, end = "", 0
    for token in lifted.tokens:
        if token.kind == "vector":
            assert isinstance(token.key, int)
            text += lifted.text[end : token.start] + f"ARRAY{lifted.numbers[token.key]}"
            end = token.end
    return text + lifted.text[end:]


NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63).map(str),
    st.floats(-1e30, 1e30).map(repr),
    st.sampled_from([".5", "1.", "+3", "1E+5", "00"]),
)
BLANKS = st.sampled_from(["", " ", "\n", "\t ", "  "])


@st.composite
def arrays(draw: st.DrawFn) -> str:
    rows, dim = draw(st.integers(0, 3)), draw(st.integers(1, 5))

    def row() -> str:
        return f"[{','.join(draw(BLANKS) + draw(NUMBERS) + draw(BLANKS) for _ in range(dim))}]"

    return draw(st.sampled_from(["ARRAY", "array", "Array "])) + (
        f"[{draw(BLANKS)}{','.join(row() for _ in range(rows))}]" if rows else row()
    )


FRAGMENTS = st.one_of(
    arrays(),
    st.sampled_from(
        ["select", "größe", "t", "(", ")", "[", "]", ",", "<=", "::", "==", "?", "$1", ":name", "*", ".", "42", "1.5e3", "ARRAY"]
    ),
    st.text(max_size=8).filter(lambda text: "\0" not in text).map(lambda text: f"'{text.replace(chr(39), chr(39) * 2)}' ||"),
    st.text(min_size=1, max_size=8).filter(lambda text: "\0" not in text).map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.text("ab'\"*[]-#1,", max_size=8).map(lambda text: f"/*x{text}*/"),
    st.text("ab'\"*[]-#1,", max_size=8).map(lambda text: f"--{text}\n"),
    st.text("ab'\"*[]-#1,", max_size=8).map(lambda text: f"#{text}\n"),
)


@given(st.lists(FRAGMENTS, max_size=20))
def test_the_lifted_text_and_its_vectors_are_the_text(fragments: list[str]) -> None:
    text = " ".join(fragments)
    lifted = lift(text)
    again = lift(together(lifted))
    assert again.text == lifted.text
    assert again.numbers == lifted.numbers
    assert [token[:2] for token in again.tokens] == [token[:2] for token in lifted.tokens]
    assert all(np.array_equal(one, other) for one, other in zip(again.vectors, lifted.vectors, strict=True))


@given(st.lists(FRAGMENTS, max_size=20))
def test_every_token_is_found_again_in_the_text_as_sent(fragments: list[str]) -> None:
    text = " ".join(fragments)
    lifted = lift(text)
    for token in lifted.tokens:
        at = lifted.offset_as_sent(token.start)
        if token.kind == "vector":
            assert text[at : at + 5].upper() == "ARRAY"
        else:
            assert text[at : at + token.end - token.start] == lifted.text[token.start : token.end]
    assert lifted.offset_as_sent(len(lifted.text)) == len(text)


@given(st.text(alphabet="ARY[]1e,.'\"-#/*? :$;()ax\n", max_size=60))
def test_no_text_gives_anything_but_tokens_or_a_refusal_with_a_place(text: str) -> None:
    with suppress(Refused):
        assert all(token.start < token.end for token in lift(text).tokens)
        return
    assert 0 <= (refusal(text).at or 0) < len(text)


# Limits


def test_a_text_has_at_most_4096_tokens() -> None:
    assert len(lift("a " * MAX_TOKENS).tokens) == MAX_TOKENS
    refused = refusal("a " * (MAX_TOKENS + 1))
    assert (refused.code, refused.at) == ("too_complex", 2 * MAX_TOKENS)


@pytest.mark.parametrize(
    "piece",
    [
        "a+",
        "/* ",
        "/**/",
        "'",
        "''",
        '"',
        "ARRAY[",
        "ARRAY[1,",
        "ARRAY[[",
        "[",
        "[1],",
        "1",
        "1.",
        "e",
        "-",
        "#",
        "\n",
        "é",
        ":a ",
        "/*+",
        "*/",
    ],
)
def test_a_hostile_mebibyte_is_read_or_refused_at_once(piece: str) -> None:
    size = 1024 * 1024 // len(piece)
    for text in (piece * size, "select ARRAY[" + piece * size):
        started_at = time.monotonic()
        with suppress(Refused):
            lift(text)
        assert time.monotonic() - started_at < 1
