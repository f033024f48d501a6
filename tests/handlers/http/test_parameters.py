"""Parameters of the query: what counts as yes, and what counts as a number."""

import pytest
from aiohttp.test_utils import make_mocked_request

from handlers.http.parameters import flag, number


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
def test_yes_has_several_words(text: str) -> None:
    assert flag(make_mocked_request("GET", f"/?bulk={text}"), "bulk")


@pytest.mark.parametrize("query", ["", "?", "?bulk", "?bulk=", "?bulk=false", "?bulk=0", "?bulk=2", "?other=true"])
def test_everything_else_is_no(query: str) -> None:
    assert not flag(make_mocked_request("GET", f"/{query}"), "bulk")


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("007", 7), ("999999999", 999_999_999)])
def test_a_number_has_one_to_nine_digits(text: str, value: int) -> None:
    assert number(make_mocked_request("GET", f"/?version={text}"), "version") == value


@pytest.mark.parametrize("text", ["", "0", "-1", "%2B1", "1.0", "1e3", "one", "1000000000", "%D9%A3", "%C2%B2", "1_0", " 1"])
def test_what_cannot_be_read_is_zero(text: str) -> None:
    assert number(make_mocked_request("GET", f"/?version={text.replace(' ', '%20')}"), "version") == 0


@pytest.mark.parametrize("query", ["", "?other=1"])
def test_a_number_that_is_not_there_is_none(query: str) -> None:
    assert number(make_mocked_request("GET", f"/{query}"), "version") is None
