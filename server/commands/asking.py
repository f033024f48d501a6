"""One call to a running server: its answer, or in one readable line why there is none.

What answers may be something else, such as a proxy that refuses a large body with a page of HTML; the title of the page is then the
reason. Knows nothing of what is asked.
"""

import contextlib
import html
import http.client
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from server.commands.remote import Remote

TIMEOUT_S = 120.0
READ_BYTES = 256 * 1024
MAX_CHARACTERS = 200
PAGE = re.compile(r"\s*<(!doctype|html|head|body|\?xml)", re.IGNORECASE)
TITLE = re.compile(r"<(title|h1)[^>]*>(.*?)</\1>", re.IGNORECASE | re.DOTALL)


class Refused(Exception):
    """The server refused, or could not be reached. The message says why, in one line."""


def asked(
    remote: Remote, method: str, path: tuple[str, ...], query: dict[str, str | None] | None = None, body: object = None
) -> Any:
    """The JSON of an answer; None for an empty one. Refused.

    body  sent as JSON; None sends no body
    """
    given = {name: value for name, value in (query or {}).items() if value is not None}
    target = remote.path(*path) + (f"?{urlencode(given)}" if given else "")
    headers = {} if body is None else {"Content-Type": "application/json"}
    with answered(remote, method, target, headers, None if body is None else json.dumps(body).encode()) as answer:
        return told(remote, answer)


def told(remote: Remote, answer: http.client.HTTPResponse) -> Any:
    """The JSON of an answer; None for an empty one. Refused when it is something else, which is what another server gives."""
    try:
        body = answer.read()
        return json.loads(body) if body else None
    except (OSError, http.client.HTTPException) as error:
        raise Refused(no_answer(remote, error)) from None
    except ValueError:
        raise Refused(not_sluice(remote)) from None


def not_sluice(remote: Remote) -> str:
    return f"{remote.url.geturl()} gives an answer that Sluice does not give: is it the right address?"


@contextlib.contextmanager
def answered(
    remote: Remote,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes | Iterator[bytes] | None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[http.client.HTTPResponse]:
    """The answer to one request. Refused for any status but a success."""
    kind = http.client.HTTPSConnection if remote.url.scheme == "https" else http.client.HTTPConnection
    with contextlib.closing(kind(remote.url.netloc, timeout=timeout_s)) as connection:
        try:
            # A server that refuses a body closes the connection before the end of it. Its answer, which says why, has come by then.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body, remote.headers | headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Refused(no_answer(remote, error)) from None
        if not 200 <= answer.status < 300:
            raise Refused(reason(answer.status, answer.read(READ_BYTES)))
        yield answer


def no_answer(remote: Remote, error: Exception) -> str:
    """Why nothing came back, in one line."""
    return f"no answer from {remote.url.geturl()}: {error or type(error).__name__}"


def reason(status: int, body: bytes) -> str:
    """Why a request was refused, in one line that begins with the status."""
    if (message := _message(body)) is not None:
        return f"{status} {message}"
    text = _readable(body.decode("utf-8", "replace")) or _phrase(status)
    advice = ": a proxy on the way limits the size of bodies" if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else ""
    return f"{status} {text}{advice}"


def _message(body: bytes) -> str | None:
    """The reason in a refusal of one of our surfaces; None when the body is no such refusal."""
    try:
        said = json.loads(body)
        said = said["error"] if isinstance(said.get("error"), dict) else said
        message = said.get("message") or said["error"]
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    place = f"line {said['line']}: " if "line" in said else ""
    return _one_line(f"{place}{message}" + (f" {said['hint']}" if "hint" in said else ""))


def _readable(text: str) -> str:
    """The title of a page, or the first line of any other text."""
    if PAGE.match(text):
        title = TITLE.search(text)
        text = html.unescape(re.sub(r"<[^>]*>", " ", title[2])) if title else ""
        text = re.sub(r"^\s*\d{3}\s+", "", text)  # the status, which stands before it anyway
        return f"{_one_line(text) or 'no reason'} (a page of HTML, so perhaps from a proxy)"
    lines = text.strip().splitlines()
    return _one_line(lines[0])[:MAX_CHARACTERS] if lines else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "without a reason"


def _one_line(text: str) -> str:
    return " ".join(text.split())
