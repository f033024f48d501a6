"""Answers with data: their headers, whether the client has them already, and compressed or plain.

Knows what caches and browsers must be told. Knows nothing of what is in an answer.
"""

import asyncio
import functools
import gzip
import re
from typing import NamedTuple

from aiohttp import hdrs, web

from engine.preview.answers import Ready
from handlers.http.encoded import EncodedAnswer, EncodedResponse
from handlers.http.errors import dumps
from handlers.http.sharing import ERROR_CODE, OPEN_HEADERS
from handlers.preview.errors import cache_headers, code_of
from handlers.preview.keys import IS_PRIVATE, OPTIONS, PREVIEW

JSON = "application/json"
# What this surface, and the server, add to every answer (handlers/http/origins.py).
EVERY_ANSWER = {"X-Content-Type-Options": "nosniff", **OPEN_HEADERS}
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
    is_packed = len(ready.plain) >= LEAST_PACKED_BYTES and accepts_gzip(request)
    asked = (is_packed, is_kept, request.get(IS_PRIVATE, False))
    sent: Sent | None = ready.sent.get(asked)
    if sent is None:
        sent = ready.sent[asked] = await _sent(request, ready, is_packed=is_packed, is_kept=is_kept)
    return EncodedResponse(sent.unmodified if is_known(request, sent.etag) else sent.whole)


class Sent(NamedTuple):
    """What is sent of an answer with data to those who ask in one way; `unmodified` to those who have it already."""

    etag: str
    whole: EncodedAnswer
    unmodified: EncodedAnswer


async def _sent(request: web.Request, ready: Ready, *, is_packed: bool, is_kept: bool) -> Sent:
    headers = EVERY_ANSWER | _data_headers(request, ready, is_kept=is_kept)
    if len(ready.plain) >= LEAST_PACKED_BYTES:
        headers[hdrs.VARY] = ", ".join(filter(None, (headers.get(hdrs.VARY), "Accept-Encoding")))
    headers[hdrs.ETAG] = f'"{ready.etag}-gz"' if is_packed else f'"{ready.etag}"'
    unmodified = EncodedAnswer(304, headers)
    headers[hdrs.CONTENT_TYPE] = JSON
    body = ready.plain
    if is_packed:
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        body = ready.packed or await asyncio.to_thread(_compressed, ready.plain)
    return Sent(headers[hdrs.ETAG], EncodedAnswer(200, headers, body), unmodified)


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


def short_report(request: web.Request, value: object, seconds: int, *, depends_on_caller: bool) -> web.Response:
    """The same for one of few short answers, which are all kept."""
    is_private = depends_on_caller and hdrs.AUTHORIZATION in request.headers
    headers = cache_headers(request, seconds, is_private=is_private, varies=depends_on_caller)
    return EncodedResponse(_short(dumps(value, sort_keys=False), tuple(headers.items())))


@functools.lru_cache
def _short(body: bytes, headers: tuple[tuple[str, str], ...]) -> EncodedAnswer:
    return EncodedAnswer(200, EVERY_ANSWER | dict(headers) | {hdrs.CONTENT_TYPE: JSON}, body)


def _compressed(body: bytes) -> bytes:
    return gzip.compress(body, GZIP_LEVEL, mtime=0)


def accepts_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip, or anything, with a quality above 0."""
    return _names_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))


@functools.lru_cache  # a few browsers and programs send the same again and again
def _names_gzip(header: str) -> bool:
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
    return header == etag or header.strip() == "*" or etag in ETAG.findall(header)
