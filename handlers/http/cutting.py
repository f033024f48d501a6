"""Cutting: how the body of an answer ends early, so that every client can tell the cut from an end.

Knows sockets and bytes. Knows nothing of what the body holds.
"""

import asyncio
from typing import cast

from aiohttp import web
from aiohttp.http import StreamWriter

from engine.frames import Buffer
from handlers.http.bodies import read_some

# The client gets this long to notice a cut before the socket is closed.
CUT_LINGER_S = 10.0


async def cut(request: web.Request, response: web.StreamResponse, last: Buffer, *, flush_s: float) -> None:
    """Send some last bytes, and no closing chunk after them; then close the connection.

    We shut our sending side first and close the socket later: a reset would overtake the last bytes, and the client would not get
    them.

    flush_s  how long the client may take to read what it gets before the cut
    """
    transport = request.transport
    if transport is None:
        return
    try:
        async with asyncio.timeout(flush_s):
            await _flush(request, response, last, transport)
        if not transport.is_closing():
            transport.write_eof()
            async with asyncio.timeout(CUT_LINGER_S):
                await _linger(request, transport)
    except (ConnectionError, TimeoutError, web.RequestPayloadError):
        pass  # the client does not read, or is gone: we can tell it nothing more
    finally:
        transport.abort()


async def _flush(request: web.Request, response: web.StreamResponse, last: Buffer, transport: asyncio.Transport) -> None:
    """Write the last bytes, and wait until the client's side has taken everything."""
    if not response.prepared:
        await response.prepare(request)
    if last:
        await cast(StreamWriter, request.writer).write(last, drain=False)
    # Not with aiohttp's drain: where the writer was cancelled while it waited there, aiohttp keeps its cancelled future and would
    # cancel us, too.
    while transport.get_write_buffer_size():  # noqa: ASYNC110 - the protocol belongs to aiohttp, and tells only that
        await asyncio.sleep(0.02)


async def _linger(request: web.Request, transport: asyncio.Transport) -> None:
    """Read on until the client has seen our end."""
    while await read_some(request):
        pass  # if we closed while the client still sends, the kernel would send a reset
    while not transport.is_closing():  # noqa: ASYNC110 - aiohttp has no event for a lost connection
        await asyncio.sleep(0.05)  # the client has sent everything and closes as soon as it has seen our end
