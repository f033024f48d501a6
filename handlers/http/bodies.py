"""Whole bodies: read to the end, decoded, refused as soon as they are known to be too large; long answers, written in pieces."""

import asyncio
import time
from asyncio import current_task, get_running_loop
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import BODY_TOO_LARGE, INVALID_BODY, INVALID_REQUEST, EngineError
from engine.frames import Buffer
from engine.pieces import PieceBuilder
from engine.repository.config import first_fault
from handlers.http.encodings import ENCODINGS, PLAIN, BadEncoding, Inflate, Plain, decoder
from handlers.http.errors import UNSUPPORTED_MEDIA_TYPE
from handlers.http.keys import REQUEST_TIMEOUT, TURN
from handlers.http.memory import BODY_MEMORY, FREE_BYTES

NDJSON = "application/x-ndjson"
# The limit of a body that holds a few fields: a form, or JSON that a Body describes.
SMALL_BODY_LIMIT_BYTES = 64 * 1024
# When a chunk is broken, aiohttp takes the garbage for a new, bad request, and the reader of the body waits on. So we look for such
# a request this often.
FRAMING_CHECK_S = 1.0
# We look this often whether the client of a long request is still there. aiohttp tells a handler of a disconnect only by cancelling
# it, for all handlers of the server or for none, and streams must not be cancelled: they are about to say how they end.
CLIENT_CHECK_S = 0.25
# A longer answer is written in pieces of this size: what was written is copied, and a client may be slow to read.
PIECE_BYTES = 256 * 1024
# A step of decoding that gave more than this took long enough for the event loop to go on after it.
SHORT_STEP_BYTES = 4 * 1024
# Making a long answer lets the event loop go on after this long.
STEP_S = 0.0005

Result = TypeVar("Result")
BodyT = TypeVar("BodyT", bound=BaseModel)


class Body(BaseModel):
    """A JSON request body: an unknown field is refused, and no value is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# Requests


def undecodable(reason: object) -> EngineError:
    """The refusal of a body that cannot be decoded; `reason` says why."""
    return EngineError(INVALID_BODY, f"could not decode body: {reason}")


def too_large(limit_bytes: int) -> EngineError:
    """The refusal of a body over its limit."""
    return EngineError(BODY_TOO_LARGE, f"body larger than {limit_bytes} bytes")


def content_encoding(request: web.Request) -> str:
    """The Content-Encoding in lower case; empty without one."""
    return request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()


def check_head(request: web.Request, limit_bytes: int | None) -> None:
    """Refuse a body that cannot be taken, as far as the head tells. EngineError `unsupported_media_type`, `body_too_large`.

    limit_bytes  of the decoded body; None for a body of any length
    """
    encoding = content_encoding(request)
    if encoding not in ENCODINGS:
        raise EngineError(UNSUPPORTED_MEDIA_TYPE, "Content-Encoding must be gzip, deflate or identity")
    if limit_bytes is not None and encoding in PLAIN and (request.content_length or 0) > limit_bytes:
        raise too_large(limit_bytes)


async def json_body(request: web.Request, model: type[BodyT]) -> BodyT:
    """A small JSON body. EngineError as `small_body`; `invalid_body` if it is not JSON, `invalid_request` for a wrong field."""
    body = await small_body(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if fault["type"] == "json_invalid":
            raise undecodable(fault["ctx"]["error"]) from None
        raise EngineError(INVALID_REQUEST, first_fault(error)) from None


async def small_body(request: web.Request) -> bytes:
    """The decoded body, at most 64 KiB. Raises as `check_head` and `read_whole`."""
    check_head(request, SMALL_BODY_LIMIT_BYTES)
    return await read_whole(request, SMALL_BODY_LIMIT_BYTES, request.app[REQUEST_TIMEOUT], user=None)


async def read_whole(request: web.Request, limit_bytes: int, timeout_s: float, *, user: str | None) -> bytes:
    """The decoded body.

    user    whose share of the memory a large body takes until the request is over; None for an anonymous caller
    raises  EngineError `body_too_large`, `invalid_body`, `too_many_requests`; TimeoutError when the end of the body has not come
            within `timeout_s`
    """
    content = request.content
    if content.is_eof() and hdrs.CONTENT_ENCODING not in request.headers:
        body = content.read_nowait()  # a small body comes together with its head
        if len(body) > limit_bytes:
            raise too_large(limit_bytes)
        if len(body) > FREE_BYTES:
            request.app[BODY_MEMORY].grow(request, user, len(body))
        return body
    async with asyncio.timeout(timeout_s):
        return await _read_pieces(request, limit_bytes, user)


async def _read_pieces(request: web.Request, limit_bytes: int, user: str | None) -> bytes:
    unpack = decoder(content_encoding(request))
    body = bytearray()
    try:
        while data := await read_some(request):
            unpack.feed(data)
            while unpack.has_more:
                body += await decode_step(request, unpack)
                if len(body) > limit_bytes:
                    raise too_large(limit_bytes)
                request.app[BODY_MEMORY].grow(request, user, len(body))
        unpack.finish()
    except (BadEncoding, web.RequestPayloadError) as error:
        raise undecodable(error) from None
    return bytes(body)


async def decode_step(request: web.Request, unpack: Plain | Inflate) -> bytes:
    """The next decoded bytes. Raises BadEncoding.

    The event loop goes on after each step of a compressed body.
    """
    if isinstance(unpack, Plain):
        return unpack.step()
    async with request.app[TURN]:
        decoded = unpack.step()
        if unpack.has_more or len(decoded) > SHORT_STEP_BYTES:
            await asyncio.sleep(0)
    return decoded


async def read_some(request: web.Request) -> bytes:
    """The bytes that the socket has, at least one; empty at the end of the body. RequestPayloadError when its chunks are broken."""
    while True:
        try:
            async with asyncio.timeout(FRAMING_CHECK_S):
                return await request.content.readany()
        except TimeoutError:
            if request.protocol._messages and not request.content.is_eof():
                raise web.RequestPayloadError("the chunks of the body are broken") from None


# Answers


async def unless_client_leaves(request: web.Request, work: Awaitable[Result]) -> Result:
    """The result of the work. When the client closes its connection first, cancels the work and raises ConnectionResetError."""
    watch = _Watch(request)
    try:
        result = await work
    except BaseException:  # it may have failed because the client has left
        watch.end()
        if watch.has_left:
            raise ConnectionResetError from None
        raise
    watch.end()
    if watch.has_left:
        raise ConnectionResetError
    return result


class _Watch:
    """Cancels the task that made it when the client of a request leaves, until `end`. A task for the work would cost 20 us more."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._task = current_task()
        self._has_cancelled = False
        self._timer = get_running_loop().call_later(CLIENT_CHECK_S, self._look)

    @property
    def has_left(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    def _look(self) -> None:
        if self.has_left and self._task is not None:
            self._has_cancelled = True
            self._task.cancel()
        else:
            self._timer = get_running_loop().call_later(CLIENT_CHECK_S, self._look)

    def end(self) -> None:
        self._timer.cancel()
        if self._has_cancelled and self._task is not None:
            self._task.uncancel()  # nobody else has cancelled the task because of this


async def in_steps(request: web.Request, parts: Iterable[Buffer]) -> list[Buffer]:
    """Make the parts of an answer that may be long. The event loop goes on after each STEP_S of work."""
    made: list[Buffer] = []
    making = iter(parts)
    is_made = False
    while not is_made:
        async with request.app[TURN]:
            ends_at = time.perf_counter() + STEP_S
            for part in making:
                made.append(part)
                if time.perf_counter() > ends_at:
                    await asyncio.sleep(0)
                    break
            else:
                is_made = True
    return made


async def send_whole(
    request: web.Request, parts: Iterable[Buffer], headers: dict[str, str], *, status: int = 200
) -> web.StreamResponse:
    """Answer with these parts: a short answer in one piece, a long one in several, as the client takes them."""
    parts = list(parts)
    if sum(map(len, parts)) <= PIECE_BYTES:
        return web.Response(body=b"".join(parts), status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = sum(map(len, parts))
    await response.prepare(request)
    try:
        for piece in _joined(parts):
            await response.write(piece)
    except ConnectionError:  # the client left, or read nothing for so long that the connection was dropped
        pass
    return response


def _joined(parts: Iterable[Buffer]) -> Iterable[bytes]:
    """The same bytes in pieces of about PIECE_BYTES."""
    pieces = PieceBuilder(PIECE_BYTES)
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            if piece := pieces.add(part[start : start + PIECE_BYTES]):
                yield piece
    yield pieces.rest()
