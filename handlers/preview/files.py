"""Files over HTTP: the pictures and sound of first rows, and Parquet files.

An address is cut into its parts before they are decoded, and a part is looked up, never joined to a path: a column may be called
`a/b`.
"""

import asyncio
import os
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web

from engine.accounts import Right
from engine.errors import EngineError
from engine.preview.states import not_found
from engine.preview.tasks import short_hash
from engine.roles import Role
from engine.store import CachedSplit
from handlers.http.auth import while_valid
from handlers.http.bodies import PIECE_BYTES
from handlers.http.cutting import cut
from handlers.http.errors import NOT_FOUND, json_response
from handlers.http.routes import Route
from handlers.http.sharing import ERROR_CODE, NO_STORE, exception_of, six_keys
from handlers.preview.admission import KEY, SURFACE, visible, who
from handlers.preview.answers import is_known
from handlers.preview.data import prepared_files
from handlers.preview.errors import cache_headers
from handlers.preview.keys import CALLER, FOLDERS, IS_PRIVATE, PREVIEW
from handlers.preview.ranges import NotSatisfiable, is_range_current, is_unmodified, wanted_range

# Only what preview writes is sent, whatever lies in the folders.
TYPES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
}
PARQUET = "application/vnd.apache.parquet"
SEPARATOR = "/--/"
POLICY = {"Content-Security-Policy": "default-src 'none'; sandbox", "Accept-Ranges": "bytes"}
FOR_EVER = 31_536_000
MAX_ROW_DIGITS = 9
# Of the dataset; empty where it has none.
ORG = web.RequestKey("preview_org", str)


async def asset(request: web.Request) -> web.StreamResponse:
    """A picture or a sound of the first rows."""
    dataset, parts = await _address(request, "/assets/", 5)
    config, split, row, column, filename = parts
    found = await _split(request, dataset, config, split)
    suffix = os.path.splitext(filename)[1]
    if suffix not in TYPES or "/" in filename or not (row.isascii() and row.isdigit() and len(row) <= MAX_ROW_DIGITS):
        raise _no_file()
    folder = request.app[FOLDERS].run(dataset, config, split, found.run) / str(int(row)) / short_hash(column)
    is_current = request.query.get("v") == found.run
    return await _send(request, lambda: _open_listed(folder, filename), TYPES[suffix], is_for_ever=is_current)


async def parquet_file(request: web.Request) -> web.StreamResponse:
    """One of the Parquet files that `/parquet` lists."""
    dataset, parts = await _address(request, "/parquet/", 3)
    config, split, filename = parts
    found = await _split(request, dataset, config, split)
    named = {f"{number:04}.parquet": path for number, path in enumerate(prepared_files(found))}
    if filename not in named:
        raise _no_file()
    return await _send(request, lambda: _open_listed(named[filename].parent, named[filename].name), PARQUET, is_for_ever=False)


async def _address(request: web.Request, prefix: str, num_parts: int) -> tuple[str, list[str]]:
    """The dataset, as `visible` gives it, and the other parts of the path. EngineError `not_found`, `dataset_not_found`."""
    caller = await who(request)
    path = request.rel_url.raw_path.removeprefix(prefix)
    name, separator, rest = path.partition(SEPARATOR)
    try:
        dataset = unquote_to_bytes(name).decode()
        parts = [unquote_to_bytes(part).decode() for part in rest.split("/")]
    except UnicodeDecodeError:
        raise _no_file() from None
    if not separator or len(parts) != num_parts or "\0" in path:
        raise _no_file()
    dataset = await visible(request, caller, dataset)
    request[ORG] = dataset.rpartition("/")[0]
    return dataset, parts


async def _split(request: web.Request, dataset: str, config: str, split: str) -> CachedSplit:
    found = await request.app[PREVIEW].states.store.find_cached_split(dataset, config, split) if split else None
    if found is None:
        raise not_found()
    return found


def _no_file() -> EngineError:
    return EngineError(NOT_FOUND, "not found")


def _open_listed(folder: Path, filename: str) -> BinaryIO:
    """A file that its folder lists; a link is none. OSError. Blocks on the disk."""
    with os.scandir(folder) as entries:
        if not any(entry.name == filename and entry.is_file(follow_symlinks=False) for entry in entries):
            raise FileNotFoundError(filename)
    return (folder / filename).open("rb", buffering=0)


async def _send(request: web.Request, opened: Callable[[], BinaryIO], kind: str, *, is_for_ever: bool) -> web.StreamResponse:
    """The file, the part of it that is asked for, or word that the client has it already."""
    try:
        file = await asyncio.to_thread(opened)
    except OSError:  # it is not there, or was swept a moment ago
        raise _no_file() from None
    with file:
        status = os.fstat(file.fileno())
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {**POLICY, **_caching(request, is_for_ever=is_for_ever), hdrs.ETAG: etag}
        headers[hdrs.LAST_MODIFIED] = formatdate(int(status.st_mtime), usegmt=True)
        if _has(request, etag, int(status.st_mtime)):
            return web.Response(status=304, headers=headers)
        try:
            part = _part(request, etag, status)
        except NotSatisfiable:
            return _beyond(headers, status.st_size)
        start, end = part or (0, status.st_size)
        if part is not None:
            headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{status.st_size}"
        response = web.StreamResponse(status=200 if part is None else 206, headers=headers)
        response.content_type = kind
        response.content_length = end - start
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            await _write_while_seen(request, response, file, range(start, end))
        return response


def _part(request: web.Request, etag: str, status: os.stat_result) -> tuple[int, int] | None:
    """The part of the file that is asked for; None for the whole. NotSatisfiable."""
    if request.method != hdrs.METH_GET or not is_range_current(request.headers.get("If-Range"), etag, int(status.st_mtime)):
        return None
    return wanted_range(request.headers.get(hdrs.RANGE), status.st_size)


def _caching(request: web.Request, *, is_for_ever: bool) -> dict[str, str]:
    """A file that is named with its run never changes; else the browser asks each time whether it has."""
    if not is_for_ever:
        varies = {"Vary": "Authorization"} if request.get(IS_PRIVATE, False) else {}
        return {"Cache-Control": "no-cache", **varies}
    headers = cache_headers(request, FOR_EVER)
    return {**headers, "Cache-Control": headers["Cache-Control"].removeprefix("public, ") + ", immutable"}


def _has(request: web.Request, etag: str, modified_s: int) -> bool:
    """Whether the client has the file; dates count only where no ETag is named."""
    if hdrs.IF_NONE_MATCH in request.headers:
        return is_known(request, etag)
    return is_unmodified(request.headers.get(hdrs.IF_MODIFIED_SINCE), modified_s)


def _beyond(headers: dict[str, str], size: int) -> web.Response:
    """A range beyond the end."""
    headers = {key: value for key, value in headers.items() if key not in (hdrs.ETAG, hdrs.LAST_MODIFIED)}
    body = six_keys(416, exception_of(416), "The range begins beyond the end of the file.")
    headers |= {hdrs.CONTENT_RANGE: f"bytes */{size}", ERROR_CODE: "RangeNotSatisfiable", "Cache-Control": NO_STORE}
    return json_response(body, status=416, headers=headers, sort_keys=False)


async def _write_while_seen(request: web.Request, response: web.StreamResponse, file: BinaryIO, part: range) -> None:
    """Send a part of the file. That of a private dataset breaks off when the caller's key ends, or its role in the team."""
    caller = request.get(CALLER) if request[IS_PRIVATE] else None
    rights = [Right(request[ORG], Role.OBSERVER)] if caller is not None and request[ORG] in caller.roles else []
    try:
        async with while_valid(request, caller, *rights):
            await _write(response, file, part.start, part.stop)
    except EngineError:
        await cut(request, response, b"", flush_s=0)


async def _write(response: web.StreamResponse, file: BinaryIO, start: int, end: int) -> None:
    while start < end:
        piece = await asyncio.to_thread(os.pread, file.fileno(), min(PIECE_BYTES, end - start), start)
        if not piece:  # it has become shorter: the client sees that bytes are missing
            response.force_close()
            return
        start += len(piece)
        try:
            await response.write(piece)
        except ConnectionError:  # the client left
            return


ANSWERS = {
    200: "the file",
    206: "the part of it that Range names",
    304: "the client has it already",
    401: "the credentials are wrong",
    404: "there is no such file",
    416: "the range begins beyond the end of the file",
}

ROUTES = (
    Route(
        method="GET",
        path="/assets/{address:.+}",
        handler=asset,
        surface=SURFACE,
        summary="A picture or a sound: dataset, `--`, config, split, row, column and file name",
        key=KEY,
        answers=ANSWERS,
        reply=tuple(TYPES.values()),
        query={"v": "the run that the address came with; then the file may be kept for ever"},
    ),
    Route(
        method="GET",
        path="/parquet/{address:.+}",
        handler=parquet_file,
        surface=SURFACE,
        summary="A Parquet file: dataset, `--`, config, split and file name",
        key=KEY,
        answers=ANSWERS,
        reply=PARQUET,
    ),
)
