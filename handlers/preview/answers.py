"""Answers with data: their headers, whether the client has them already, and compressed or plain.

Knows what caches and browsers must be told. Knows nothing of what is in an answer.
"""

import asyncio
import gzip
import re

from aiohttp import hdrs, web

from engine.preview.answers import Ready
from handlers.http.errors import dumps
from handlers.http.sharing import ERROR_CODE
from handlers.preview.errors import cache_headers, code_of
from handlers.preview.keys import OPTIONS, PREVIEW

JSON = "application/json"
# A shorter body is not compressed.
LEAST_PACKED_BYTES = 500
GZIP_LEVEL = 5
ETAG = re.compile(r'(?:W/)?("[^"]*")')
QUALITY = re.compile(r"\s*;\s*q\s*=\s*([01](?:\.\d*)?)\s*$", re.IGNORECASE)


async def data_answer(request: web.Request, name: str, ready: Ready, *, is_kept: bool = True) -> web.Response:
    """A 200 with data, or a 304.

    name     of the dataset, whose downloads are counted
    is_kept  False for an answer that nobody may keep
    """
    request.app[PREVIEW].downloads[name] += 1
    packed = await _packed(request, ready)
    headers = _data_headers(request, ready, is_kept=is_kept)
    if len(ready.plain) >= LEAST_PACKED_BYTES:
        headers[hdrs.VARY] = ", ".join(filter(None, (headers.get(hdrs.VARY), "Accept-Encoding")))
    headers[hdrs.ETAG] = f'"{ready.etag}-gz"' if packed else f'"{ready.etag}"'
    if is_known(request, headers[hdrs.ETAG]):
        return web.Response(status=304, headers=headers)
    if packed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return web.Response(body=packed or ready.plain, headers=headers, content_type=JSON)


def _data_headers(request: web.Request, ready: Ready, *, is_kept: bool) -> dict[str, str]:
    options = request.app[OPTIONS]
    is_final = ready.is_whole and not ready.is_stale
    seconds = options.max_age_long_seconds if is_final else options.max_age_short_seconds
    headers = {"X-Revision": ready.revision, **cache_headers(request, seconds if is_kept else 0)}
    if ready.is_stale:
        headers["X-Preview-Status"] = "stalled"
        if ready.fault is not None:
            headers[ERROR_CODE] = code_of(ready.fault.code)
    if ready.truncated:
        headers["X-Preview-Truncated"] = ready.truncated
    return headers


async def report(request: web.Request, value: object, seconds: int, *, depends_on_caller: bool) -> web.Response:
    """An answer about all datasets. What depends on the credential may be kept by its owner alone."""
    body = dumps(value, sort_keys=False)
    is_private = depends_on_caller and hdrs.AUTHORIZATION in request.headers
    headers = cache_headers(request, seconds, is_private=is_private, varies=depends_on_caller)
    if len(body) >= LEAST_PACKED_BYTES:
        headers[hdrs.VARY] = ", ".join(filter(None, (headers.get(hdrs.VARY), "Accept-Encoding")))
        if accepts_gzip(request):
            body = await asyncio.to_thread(_compressed, body)
            headers[hdrs.CONTENT_ENCODING] = "gzip"
    return web.Response(body=body, headers=headers, content_type=JSON)


async def _packed(request: web.Request, ready: Ready) -> bytes:
    """The compressed bytes, if the client takes them; a replica has made them for answers that are sent as they are stored."""
    if len(ready.plain) < LEAST_PACKED_BYTES or not accepts_gzip(request):
        return b""
    return ready.packed or await asyncio.to_thread(_compressed, ready.plain)


def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


def accepts_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip, or anything, with a quality above 0."""
    header = request.headers.get(hdrs.ACCEPT_ENCODING, "")
    if header in ("", "identity"):
        return False
    qualities: dict[str, float] = {}
    for part in header.split(","):
        quality = QUALITY.search(part)
        coding = part.partition(";")[0].strip().lower()
        qualities[coding] = float(quality[1]) if quality else 1.0
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def is_known(request: web.Request, etag: str) -> bool:
    """Whether If-None-Match names the answer: RFC 9110, 13.1.2."""
    header = request.headers.get(hdrs.IF_NONE_MATCH)
    if header is None:
        return False
    return header.strip() == "*" or etag in ETAG.findall(header)
