"""A refusal is one readable line, whoever has sent it: one of our surfaces, a proxy with a page of HTML, or something unknown."""

import pytest

from server.commands.asking import reason

NGINX = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 ...</h1></center>"
HAPROXY = b"<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n"
LOGIN = b"<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><title>\n  Sign&nbsp;in &amp; go on\n</title>"
PAGE = " (a page of HTML, so perhaps from a proxy)"
LIMIT = ": a proxy on the way limits the size of bodies"


@pytest.mark.parametrize(
    ("status", "body", "line"),
    [
        (404, b'{"error":"model not found"}', "404 model not found"),
        (413, b'{"error":"the body is too large"}', "413 the body is too large"),
        (422, b'{"message":"no","code":"bad_row","line":3,"hint":"Send a number."}', "422 line 3: no Send a number."),
        (400, b'{"error":{"message":"two\\nlines","code":"x"}}', "400 two lines"),
        (413, NGINX, f"413 Request Entity Too Large{PAGE}{LIMIT}"),
        (503, HAPROXY, f"503 Service Unavailable{PAGE}"),
        (401, LOGIN, f"401 Sign in & go on{PAGE}"),
        (502, b"<html></html>", f"502 no reason{PAGE}"),
        (502, b"", "502 Bad Gateway"),
        (599, b"", "599 without a reason"),
        (500, b"first line\nsecond line", "500 first line"),
        (500, b"x" * 1000, "500 " + "x" * 200),
        (500, b"\xff\x00", "500 \ufffd\x00"),
        (500, b"[]", "500 []"),
        (500, b'{"detail":[]}', '500 {"detail":[]}'),
    ],
)
def test_a_refusal_is_one_line(status: int, body: bytes, line: str) -> None:
    assert reason(status, body) == line


def test_a_body_that_is_too_large_for_a_proxy_says_so_without_a_text_of_its_own() -> None:
    assert reason(413, b"").startswith("413 ")
    assert reason(413, b"").endswith(LIMIT)
