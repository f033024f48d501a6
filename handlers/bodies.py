"""Whole bodies: read to the end, decoded, refused as soon as they are known to be too large; long answers, written in pieces."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from aiohttp import hdrs, web

from engine.errors import EngineError
from engine.frames import Buffer
from handlers.http.keys import BULK_OPTIONS
from handlers.http.lines import ENCODINGS, PLAIN, BadEncoding, decoder
from handlers.streaming.bulk import read_some

# How often we look whether the client of a long request is still there: the framework either tells nobody or cancels every handler
# of the server, also streams that are about to say how they end.
CLIENT_CHECK_S = 0.25
# A longer answer is written in pieces of this size, so that a client which never reads it does not keep it in memory for ever.
PIECE_BYTES = 256 * 1024

Result = TypeVar("Result")


def check_head(request: web.Request, limit_bytes: int | None) -> None:
    """What the head tells of a body that cannot be taken. EngineError `unsupported_media_type`, `body_too_large`.

    limit_bytes  of the decoded body; None for one of any length
    """
    encoding = _encoding(request)
    if encoding not in ENCODINGS:
        raise EngineError("unsupported_media_type", "Content-Encoding must be gzip, deflate or identity")
    if limit_bytes is not None and encoding in PLAIN and (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)


async def read_whole(request: web.Request, limit_bytes: int, timeout_s: float) -> bytes:
    """The decoded body. EngineError `body_too_large`, `invalid_body`; TimeoutError when it has not come by then."""
    content = request.content
    if content.is_eof() and hdrs.CONTENT_ENCODING not in request.headers:
        body = content.read_nowait()  # it came with the head, as small bodies do
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    async with asyncio.timeout(timeout_s):
        return await _read_pieces(request, limit_bytes)


async def _read_pieces(request: web.Request, limit_bytes: int) -> bytes:
    unpack = decoder(_encoding(request))
    body = bytearray()
    try:
        while data := await read_some(request):
            for decoded in unpack.feed(data):
                body += decoded
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
        unpack.finish()
    except (BadEncoding, web.RequestPayloadError) as error:
        raise EngineError("invalid_body", f"could not decode body: {error}") from None
    return bytes(body)


def _encoding(request: web.Request) -> str:
    return request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()


def _too_large(limit_bytes: int) -> EngineError:
    return EngineError("body_too_large", f"body larger than {limit_bytes} bytes")


# Answers


async def unless_client_leaves(request: web.Request, work: Awaitable[Result]) -> Result:
    """What the work gives; it is cancelled, and ConnectionResetError raised, when the client has closed its connection."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=CLIENT_CHECK_S)
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def send_whole(
    request: web.Request, parts: Iterable[Buffer], headers: dict[str, str], *, status: int = 200
) -> web.StreamResponse:
    """The answer, joined if it is short; a long one in pieces, each of which the client must take within the stall timeout."""
    parts = list(parts)
    if sum(map(len, parts)) <= PIECE_BYTES:
        return web.Response(body=b"".join(parts), status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = sum(map(len, parts))
    await response.prepare(request)
    try:
        for piece in _joined(parts):
            async with asyncio.timeout(request.app[BULK_OPTIONS].stall_timeout_s):
                await response.write(piece)
    except (TimeoutError, ConnectionError):  # the head is out: all that can be done is to break off
        if request.transport is not None:
            request.transport.abort()
    return response


def _joined(parts: Iterable[Buffer]) -> Iterable[bytes]:
    """The same bytes in pieces of about PIECE_BYTES."""
    waiting: list[Buffer] = []
    num_bytes = 0
    slices = (part[start : start + PIECE_BYTES] for part in parts for start in range(0, len(part), PIECE_BYTES))
    for part in slices:
        waiting.append(part)
        num_bytes += len(part)
        if num_bytes >= PIECE_BYTES:
            yield b"".join(waiting)
            waiting, num_bytes = [], 0
    yield b"".join(waiting)
