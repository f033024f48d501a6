"""The command `score`: the records of a file through a model, the results into a file or to standard output (streaming.md 3.10).

Sends and receives at the same time, in memory that does not grow with the file, and checks the server's summary against what it
sent and received. Knows how files and connections end; what the lines say is known in server/lines.py.
"""

import argparse
import asyncio
import contextlib
import enum
import json
import os
import select
import signal
import socket
import stat
import sys
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import aiohttp
import uvloop
from yarl import URL

from server.lines import AnswerLines, Buffer, RecordCounter
from server.progress import Progress
from server.remote import BadRemote, Remote, add_arguments, find_remote
from server.usage import EXIT_USAGE, Parser

READ_BYTES = 256 * 1024
STDIN, STDOUT = 0, 1
# Fast: the network is seldom slower than what a higher level costs.
GZIP_LEVEL = 1
CONNECT_TIMEOUT_S = 30
# The head comes before the first record is scored, but a model may have to be loaded for it.
HEAD_TIMEOUT_S = 120
KEEPALIVE_S = 60


class Exit(enum.IntEnum):
    """How the command ends, for scripts."""

    DONE = 0  # every record has a result
    ERRORS = 1  # every record was answered, some with an error
    CUT = 2  # the stream was cut, or the counts differ, or it was interrupted
    REFUSED = 3  # the server said no, or could not be reached, before the start
    USAGE = EXIT_USAGE


DESCRIPTION = "Send the records of a file through a model of a running server, and write the results as they come."
EXITS = "exit codes: 0 all results; 1 some errors; 2 cut, interrupted, or counts that differ; 3 refused before the start; 64 usage"


class Refused(Exception):
    """The stream did not begin; why."""


class Unwanted(Exception):
    """Whoever reads our results has enough."""


class Cut(Exception):
    """The stream ended before its end, or its counts do not fit; why."""


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        remote = find_remote(options, os.environ)
        owner, name = _model(options.model)
        with contextlib.ExitStack() as files:
            source = files.enter_context(Source.opened(options.file))
            results = files.enter_context(Sink.opened(options.output))
            errors = files.enter_context(Sink.opened(options.errors)) if options.errors else None
            _check_distinct(source, results, errors)
            exchange = Exchange(remote, remote.url / owner / "models" / name, source, results, errors, options)
            return uvloop.run(exchange.run())
    except (BadRemote, OSError) as error:
        print(f"score: {error}", file=sys.stderr)
        return Exit.USAGE


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m server score", description=DESCRIPTION, epilog=EXITS)
    parser.add_argument("model", metavar="OWNER/MODEL")
    parser.add_argument("file", metavar="FILE", help="one JSON object a line; - for standard input")
    parser.add_argument("-o", "--output", metavar="OUT", help="file for the results [standard output]")
    parser.add_argument("--errors", metavar="FILE", help="file for the error lines [among the results]")
    parser.add_argument("--ordered", action="store_true", help="results in the order of the records")
    parser.add_argument("--gzip", action="store_true", help="compress what is sent")
    parser.add_argument("--quiet", action="store_true", help="no progress; the last line comes all the same")
    add_arguments(parser)
    return parser


def _model(text: str) -> tuple[str, str]:
    owner, slash, name = text.partition("/")
    if not owner or not name or "/" in name or not slash:
        raise BadRemote(f"{text} is no model: write OWNER/MODEL")
    return owner, name


# Files


class Source:
    """Where records come from. `num_bytes` is None for what has no size: a pipe, a terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        self.num_bytes = self.status.st_size if stat.S_ISREG(self.status.st_mode) else None
        self._gate = Gate(fd, is_writing=False)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str) -> Iterator["Source"]:
        if path == "-":
            yield cls(STDIN)
            return
        with open(path, "rb", buffering=0) as file:
            yield cls(file.fileno())

    async def read(self) -> bytes:
        """The next bytes, as soon as there are some; none at the end."""
        await self._gate.passed()
        return os.read(self.fd, READ_BYTES)


class Sink:
    """Where lines go."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        self._gate = Gate(fd, is_writing=True)

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str | None) -> Iterator["Sink"]:
        """A file keeps what is in it until the server has let us in."""
        if path is None:
            yield cls(STDOUT)
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            yield cls(fd)
        finally:
            os.close(fd)

    def begin(self) -> None:
        """Empty a file that we opened; what the shell opened is its business."""
        if self.fd != STDOUT and stat.S_ISREG(self.status.st_mode):
            os.ftruncate(self.fd, 0)

    async def write(self, pieces: Iterable[Buffer]) -> None:
        """Raises Unwanted when nobody reads the other end any more."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                await self._gate.passed()
                try:
                    rest = rest[os.write(self.fd, rest[: self._gate.limit]) :]
                except BrokenPipeError:
                    raise Unwanted from None


class Gate:
    """A pipe, a socket or a terminal can make its user wait: the event loop must go on meanwhile. A file never does.

    limit  bytes that can be written without waiting once `passed` has returned; None for any number
    """

    def __init__(self, fd: int, *, is_writing: bool) -> None:
        mode = os.fstat(fd).st_mode
        self._fd = fd
        self._is_writing = is_writing
        self._can_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT if is_writing else select.POLLIN)
        self.limit = select.PIPE_BUF if self._can_block else None

    async def passed(self) -> None:
        """Wait until the descriptor can be read or written."""
        if not self._can_block or self._poll.poll(0):
            return
        loop, is_open = asyncio.get_running_loop(), asyncio.Event()
        add, remove = (loop.add_writer, loop.remove_writer) if self._is_writing else (loop.add_reader, loop.remove_reader)
        add(self._fd, is_open.set)
        try:
            await is_open.wait()
        finally:
            remove(self._fd)


def _check_distinct(source: Source, results: Sink, errors: Sink | None) -> None:
    """Writing into the file that is read would end neither."""
    files = [one.status for one in (source, results, errors) if one is not None and stat.S_ISREG(one.status.st_mode)]
    if len({(status.st_dev, status.st_ino) for status in files}) < len(files):
        raise BadRemote("records, results and errors need files of their own")


# The exchange


class Exchange:
    """One stream, from its first byte to the exit code."""

    def __init__(
        self, remote: Remote, model: URL, source: Source, results: Sink, errors: Sink | None, options: argparse.Namespace
    ) -> None:
        self._remote = remote
        self._model = model
        self._source = source
        self._results = results
        self._errors = errors
        self._options = options
        self._sent = RecordCounter()
        self._lines = AnswerLines("", is_divided=False)
        self._source_error: OSError | None = None
        self._lost: Exception | None = None  # how the connection ended, if not by the end of the answer
        self._progress = Progress(source.num_bytes, is_shown=not options.quiet and not os.isatty(results.fd))

    async def run(self) -> Exit:
        task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)  # type: ignore[union-attr]
        try:
            await self._exchange()
            self._check()
        except Refused as error:
            self._progress.end(f"score: {error}")
            return Exit.REFUSED
        except Unwanted:
            return Exit.CUT  # as `| head` means it: no word about it
        except asyncio.CancelledError:
            return self._cut("interrupted")
        except (Cut, OSError) as error:
            return self._cut(str(error))
        self._progress.end(f"{self._counts()}, {self._rate()}")
        return Exit.ERRORS if self._lines.errors else Exit.DONE

    def _cut(self, reason: str) -> Exit:
        self._progress.end(f"score: cut after {self._counts()}: {reason}")
        return Exit.CUT

    def _counts(self) -> str:
        lines = self._lines
        return f"{lines.records:,} records: {lines.results:,} results, {lines.errors:,} errors"

    def _rate(self) -> str:
        seconds = self._progress.seconds
        return f"{seconds:.1f} s, {self._lines.records / max(seconds, 0.001):,.0f} records/s"

    # On the connection

    async def _exchange(self) -> None:
        connector = aiohttp.TCPConnector(limit=1, socket_factory=_kept_alive)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session, self._response(session) as response:
            await self._begin(response)
            while data := await self._receive(response.content):
                await self._take(data)
                self._progress.show(records=self._lines.records, errors=self._lines.errors, sent_bytes=self._sent.num_bytes)

    @contextlib.asynccontextmanager
    async def _response(self, session: aiohttp.ClientSession) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head. `Expect` keeps the body here until the server has let us in."""
        query = {"bulk": "true", "summary": "true"} | ({"ordered": "true"} if self._options.ordered else {})
        headers = {"Content-Type": "application/x-ndjson", "Accept-Encoding": "identity"} | self._remote.headers
        if self._options.gzip:
            headers["Content-Encoding"] = "gzip"
        elif self._source.num_bytes is not None:
            headers["Content-Length"] = str(self._source.num_bytes)  # spares both sides the chunks
        asked: dict[str, Any] = {"params": query, "headers": headers, "data": self._body(), "expect100": True}
        try:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                response = await session.post(self._model, **asked, allow_redirects=False, read_bufsize=READ_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            raise Refused(f"no answer from {self._remote.url}: {error or 'it takes too long'}") from None
        async with response:
            yield response

    async def _body(self) -> AsyncIterator[bytes]:
        compressor = zlib.compressobj(GZIP_LEVEL, wbits=31) if self._options.gzip else None
        while data := await self._read():
            self._sent.feed(data)
            if compressor is None:
                yield data
            elif packed := await asyncio.to_thread(compressor.compress, data):
                yield packed
        self._sent.finish()
        if compressor is not None:
            yield compressor.flush()

    async def _read(self) -> bytes:
        try:
            return await self._source.read()
        except OSError as error:
            self._source_error = error
            raise

    async def _begin(self, response: aiohttp.ClientResponse) -> None:
        bulk_id = response.headers.get("X-Bulk-Id")
        if response.status != 200 or bulk_id is None:
            raise Refused(f"{response.status} {_error_text(await response.content.read(READ_BYTES))}")
        self._lines = AnswerLines(bulk_id, is_divided=self._errors is not None)
        self._results.begin()
        if self._errors is not None:
            self._errors.begin()

    async def _receive(self, content: aiohttp.StreamReader) -> bytes:
        """What has come; nothing at the end. The framework would keep to itself what came just before a cut: the reason for it."""
        if self._lost is not None:
            return b""
        try:
            return await content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._lost = error
            content.set_exception(None)  # type: ignore[arg-type]
            return content.read_nowait()

    async def _take(self, data: bytes) -> None:
        results, errors = self._lines.feed(data)
        await self._results.write(results)
        if self._errors is not None:
            await self._errors.write(errors)

    # The end

    def _check(self) -> None:
        """A clean end whose numbers fit. Several objects on one line are several records, so more than we counted is no fault."""
        lines, summary = self._lines, self._lines.summary
        if lines.failure is not None:
            raise Cut(lines.failure)
        if self._source_error is not None:
            raise Cut(f"the file cannot be read: {self._source_error}")
        if self._lost is not None:
            raise Cut(f"the connection ended early: {self._lost}")
        if summary is None:
            raise Cut("no summary came")
        pairs = {
            "records": (lines.records, summary["records"]),
            "results": (lines.results, summary["results"]),
            "errors": (lines.errors, summary["errors"]),
            "bytes sent": (self._sent.num_bytes, summary["bytes_in"]),
        }
        for what, (ours, theirs) in pairs.items():
            if ours != theirs:
                raise Cut(f"counts differ: {ours:,} {what} here, {theirs:,} in the server's summary")
        if summary["records"] < self._sent.records:
            raise Cut(f"counts differ: {self._sent.records:,} records were sent, {summary['records']:,} were answered")


def _kept_alive(address: tuple[Any, ...]) -> socket.socket:
    """A connection that notices when the other machine is gone, however long a model thinks."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 6)
    return made


def _error_text(body: bytes) -> str:
    """What a refusal says: our servers say it in `error`, others in their own way."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        text = body.decode("utf-8", "replace").strip()
        return text.splitlines()[0][:200] if text else "without a reason"
