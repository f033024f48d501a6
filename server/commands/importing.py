"""`dataset import`: the files of a person, turned into lines by a child process, become one upload to a running server.

The child reads a file part by part, so memory does not grow with the files. All files together are one body: all of them become
rows, or none. Knows nothing of what a line holds.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from engine.frames import Header
from engine.replicas.replica import Replica, ReplicaGone
from server.commands.asking import Refused, no_answer, reason
from server.commands.child import NotStarted, child
from server.commands.dataset import PLAIN_LINE_S
from server.commands.progress import Progress
from server.commands.remote import Remote

CONNECT_TIMEOUT_S = 30.0
# Between two signs of life of the server, which embeds and seals after the last line.
ANSWER_TIMEOUT_S = 3600.0
# The first line of a request has at most 8,190 characters.
MAX_TYPES_CHARACTERS = 4096
# Options that are sent as they were given.
OPTIONS = ("model", "class_labels", "on_error", "split")


@dataclass(slots=True)
class Files:
    """The files of one import, and how far they are read.

    sizes      bytes of each, by its path
    num_rows   that were read so far
    num_bytes  of the files that were read so far, by the reader's share of the one at hand
    fault      why a file could not be read to its end
    types      of columns, which the upload must ask for
    late       types of the columns that have no value in the first rows of the first file
    """

    sizes: dict[Path, int]
    num_rows: int = 0
    num_bytes: int = 0
    fault: str | None = None
    types: dict[str, str] = field(default_factory=dict)
    late: dict[str, str] = field(default_factory=dict)


def run(remote: Remote, path: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Import the files; returns the answer of the server. Refused, OSError."""
    files = Files({name.resolve(): name.stat().st_size for name in map(Path, options.files)})
    progress = Progress(sum(files.sizes.values()), is_shown=not options.quiet, plain_line_s=PLAIN_LINE_S, noun="rows")
    try:
        answer = asyncio.run(_import(remote, path, options, files, progress))
    except NotStarted as error:
        raise Refused(str(error)) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Refused(files.fault or no_answer(remote, error)) from None
    finally:
        progress.close()
    counts = f"{answer['added']:,} rows added" + (f", {answer['skipped']:,} skipped" if answer["skipped"] else "")
    progress.end(f"{answer['dataset']} version {answer['version']}: {counts}, {progress.seconds:.1f} s")
    return answer


async def _import(
    remote: Remote, path: tuple[str, ...], options: argparse.Namespace, files: Files, progress: Progress
) -> dict[str, Any]:
    async with child() as reader:
        for i, name in enumerate(files.sizes):
            told, _ = await _part(reader, name, 0)
            files.types |= told["types"]
            files.late = told["late_types"] if i == 0 else files.late
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=ANSWER_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, headers=remote.headers) as session:
            return await _send(session, remote, path, options, _lines(reader, files, progress), files)


async def _send(
    session: aiohttp.ClientSession,
    remote: Remote,
    path: tuple[str, ...],
    options: argparse.Namespace,
    lines: AsyncIterator[bytes],
    files: Files,
) -> dict[str, Any]:
    """Send one body. We wait for `100 Continue`, so that a refusal by the head comes before the first line. Refused."""
    method, target = ("POST", remote.path(*path, "rows")) if options.append else ("PUT", remote.path(*path))
    url = f"{remote.url.scheme}://{remote.url.netloc}{target}"
    headers = {"Content-Type": "application/x-ndjson"}
    async with session.request(
        method, url, params=_query(options, files), data=lines, headers=headers, expect100=True, allow_redirects=False
    ) as answer:
        body = await answer.read()
        if answer.status not in (200, 201):
            raise Refused(reason(answer.status, body))
        found: dict[str, Any] = await answer.json()
        return found


def _query(options: argparse.Namespace, files: Files) -> list[tuple[str, str]]:
    """The parameters of the upload: what was given, and the types that the files have and lines of JSON do not tell."""
    query = [(name, getattr(options, name)) for name in OPTIONS if getattr(options, name) is not None]
    query += [(name, value) for name in ("embed", "words") for value in getattr(options, name) or ()]
    given = [pair for pair in (options.types or "").split(",") if pair]
    named = {pair.rpartition(":")[0] for pair in given}
    given += [f"{name}:{kind}" for name, kind in files.types.items() if name not in named]
    if not options.append:
        given += _late_types(files, named | {*files.types} | {*(options.class_labels or "").split(",")}, sum(map(len, given)))
    return [*query, ("types", ",".join(given))] if given else query


def _late_types(files: Files, named: set[str], num_characters: int) -> Iterator[str]:
    """Types of further columns, as many as a request has room for. A dataset that is there has types of its own.

    num_characters  of the other types
    """
    for name, kind in files.late.items():
        num_characters += len(quote(f"{name}:{kind},"))
        if name not in named and "," not in name and num_characters <= MAX_TYPES_CHARACTERS:
            yield f"{name}:{kind}"


async def _lines(reader: Replica, files: Files, progress: Progress) -> AsyncIterator[bytes]:
    """The lines of all files, as they are read."""
    before = 0
    for name, size in files.sizes.items():
        number, is_last = 0, False
        while not is_last:
            try:
                answer, lines = await _part(reader, name, number)
            except Refused as refused:
                files.fault = str(refused)
                raise
            is_last, number = answer["is_last"], number + 1
            files.num_rows += answer["rows"]
            files.num_bytes = before + round(size * answer["done"])
            if lines:
                yield bytes(lines)
            progress.show(records=files.num_rows, sent_bytes=files.num_bytes)
        before += size


async def _part(reader: Replica, name: Path, number: int) -> tuple[Header, memoryview]:
    """The next lines of a file. Refused."""
    try:
        answer, lines = await reader.ask({"family": "ingestion", "task": "lines", "source": os.fspath(name), "part": number})
    except ReplicaGone:
        raise Refused(f"the process that read {name.name} died; is there enough memory?") from None
    if "refused" in answer:
        raise Refused(f"{name.name}: {answer['refused']}")
    if "error" in answer:
        raise Refused(f"{name.name} cannot be read: {answer['error']['reason']}")
    return answer, lines
