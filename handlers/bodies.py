"""Whole bodies: read to the end, decoded, refused as soon as they are known to be too large."""

import asyncio

from aiohttp import hdrs, web

from engine.errors import EngineError
from handlers.bulk import read_some
from handlers.lines import ENCODINGS, PLAIN, BadEncoding, decoder


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
