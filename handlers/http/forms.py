"""Forms: the parts of a multipart body, one after the other, each read while it arrives.

Knows nothing of what a part is for.
"""

from collections.abc import AsyncIterator

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from handlers.http.bodies import undecodable
from handlers.http.uploads import within_idle_timeout

FORM = "multipart/form-data"
CHUNK_BYTES = 256 * 1024
# The most bytes that the heads and boundaries of a form may add to its files.
FORM_BYTES = 1024 * 1024
# The exceptions that aiohttp raises for a body that is not a form.
FAULTS = (ValueError, AssertionError, KeyError, RuntimeError, HttpProcessingError, web.HTTPException)


async def opened(request: web.Request) -> MultipartReader:
    """The form of a request. EngineError `invalid_body`."""
    try:
        return await request.multipart()
    except FAULTS:
        raise undecodable("it is not a form") from None


async def next_part(request: web.Request, form: MultipartReader) -> BodyPartReader | None:
    """The next part, or None at the end. EngineError `invalid_body`, `timed_out`."""
    try:
        part = await within_idle_timeout(request, form.next())
    except FAULTS:
        raise undecodable("it is not a form") from None
    if part is not None and not isinstance(part, BodyPartReader):
        raise undecodable("a part of it is a form itself")
    return part


async def part_chunks(request: web.Request, part: BodyPartReader) -> AsyncIterator[bytes]:
    """The content of a part as it comes. EngineError `invalid_body`, `timed_out`."""
    while chunk := await within_idle_timeout(request, _chunk(part)):
        yield chunk


async def _chunk(part: BodyPartReader) -> bytes:
    try:
        return await part.read_chunk(CHUNK_BYTES)
    except FAULTS:
        raise undecodable("it is not a form") from None
