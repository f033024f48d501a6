"""Answers whose bytes are made once and sent many times.

aiohttp makes the head of every answer anew, which takes longer than all that a cached answer needs besides (DECISIONS.md). The head
of such an answer differs from one request to the next in its date alone. Knows nothing of what is in an answer.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Protocol

from aiohttp import HttpVersion11, hdrs, web, web_response
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web_request import BaseRequest

# Statuses without a body, which have no Content-Length either.
NO_BODY = frozenset({204, 304})
# A body of at least this size is not copied behind its head: a shorter one is copied sooner than it is written by itself.
LEAST_APART_BYTES = 2048


def encoded_head(status: int, headers: Mapping[str, str]) -> bytes:
    """The first line of an answer, these headers and Server, without Date and the empty line. ValueError for a newline in one."""
    lines = {**headers, hdrs.SERVER: web_response.SERVER_SOFTWARE}
    if any(character in value for value in lines.values() for character in "\r\n\0"):
        raise ValueError("a header must not contain a newline")
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{text}".encode()


class Encoded(Protocol):
    """An answer with its head as bytes, without Date and the empty line; `headers` are for a head that aiohttp makes."""

    status: int
    head: bytes
    body: bytes

    def headers(self) -> Mapping[str, str]: ...


class EncodedAnswer:
    """Status, headers and body of an answer, with its head as bytes.

    headers  all that it has but Server, Date and Content-Length: with those of its surface, and those of every answer
    """

    __slots__ = ("_headers", "body", "head", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self._headers = dict(headers)
        length = {} if status in NO_BODY else {str(hdrs.CONTENT_LENGTH): str(len(body))}
        self.head = encoded_head(status, self._headers | length)

    def headers(self) -> Mapping[str, str]:
        """As they were given, for a head that aiohttp makes."""
        return self._headers


class EncodedResponse(web.Response):
    """Sends an encoded answer. Where its bytes are not what this client must get, aiohttp makes the head as usual."""

    def __init__(self, answer: Encoded) -> None:
        # web.Response would look at a body and a type, of which there are none yet; that costs more than all that is left here.
        web.StreamResponse.__init__(self, status=answer.status)
        self._answer = answer

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it, so that nothing is left for `write_eof`. ClientConnectionResetError."""
        if self.prepared or self.headers or not self._is_usual(request):
            return await self._prepare_anew(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ClientConnectionResetError("Cannot write to closing transport")
        head = self._answer.head + b"Date: %b\r\n\r\n" % rfc822_formatted_time().encode()
        body = b"" if request.method == hdrs.METH_HEAD else self._answer.body
        if len(body) < LEAST_APART_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._keep_alive = self._eof_sent = True
        if request.protocol.writing_paused:
            await request.writer.drain()
        return None

    def _is_usual(self, request: BaseRequest) -> bool:
        """Whether the connection speaks HTTP/1.1 and stays open; then no header depends on it."""
        return self._keep_alive is None and request.version == HttpVersion11 and request.keep_alive

    async def _prepare_anew(self, request: BaseRequest) -> AbstractStreamWriter | None:
        if not self.prepared:
            self.headers.update({name: value for name, value in self._answer.headers().items() if name not in self.headers})
            self.body = self._answer.body
        return await super().prepare(request)
