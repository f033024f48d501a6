"""The command `score`: the records of a file through a model, the results into a file or to standard output.

Sends and receives at the same time, in memory that does not grow with the file, and checks the server's summary against what it
sent and received. Knows how files and connections end; what the lines say is known in server/lines.py.
"""

import argparse
import contextlib
import enum
import http.client
import json
import os
import select
import signal
import socket
import stat
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from server.duplex import READ_BYTES, Duplex, Upload, can_block
from server.lines import AnswerLines, Buffer, RecordCounter
from server.progress import Progress
from server.remote import BadRemote, Remote, add_arguments, find_remote
from server.usage import EXIT_USAGE, Parser

STDIN, STDOUT = 0, 1
# Fast: the network is seldom slower than what a higher level costs.
GZIP_LEVEL = 1
CONNECT_TIMEOUT_S = 30.0
# The body is kept back this long for an answer that refuses it. Behind some proxies the answer comes only after the body.
EXPECT_TIMEOUT_S = 1.0
# The head comes before the first record is scored, but a model may have to be loaded for it.
HEAD_TIMEOUT_S = 120.0
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


class Cut(Exception):
    """The stream ended before its end, or its counts do not fit; why."""


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        remote = find_remote(options, os.environ)
        model = _model(options.model)
        with contextlib.ExitStack() as files:
            source = files.enter_context(Source.opened(options.file))
            results = files.enter_context(Sink.opened(options.output))
            errors = files.enter_context(Sink.opened(options.errors)) if options.errors else None
            _check_distinct(source, results, errors)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            return Exchange(remote, model, source, results, errors, options).run()
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


def _model(text: str) -> tuple[str, ...]:
    """The path of the model, segment by segment."""
    owner, slash, name = text.partition("/")
    if not owner or not name or "/" in name or not slash:
        raise BadRemote(f"{text} is no model: write OWNER/MODEL")
    return owner, "models", name


# Files


class Source:
    """Where records come from. `num_bytes` is None for what has no size: a pipe, a terminal."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        is_file = stat.S_ISREG(self.status.st_mode)
        self.num_bytes = max(0, self.status.st_size - os.lseek(fd, 0, os.SEEK_CUR)) if is_file else None

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str) -> Iterator["Source"]:
        if path == "-":
            yield cls(STDIN)
            return
        with open(path, "rb", buffering=0) as file:
            yield cls(file.fileno())


class Sink:
    """Where lines go."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.status = os.fstat(fd)
        self._can_block = can_block(fd)

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

    def write(self, pieces: Iterable[Buffer], wait: Callable[[int, int], None]) -> None:
        """All of it. `wait` is for a descriptor that is not ready; a pipe that is ready takes PIPE_BUF bytes at once."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                if self._can_block:
                    wait(self.fd, select.POLLOUT)
                rest = rest[os.write(self.fd, rest[: select.PIPE_BUF] if self._can_block else rest) :]


def _check_distinct(source: Source, results: Sink, errors: Sink | None) -> None:
    """Writing into the file that is read would end neither."""
    files = [one.status for one in (source, results, errors) if one is not None and stat.S_ISREG(one.status.st_mode)]
    if len({(status.st_dev, status.st_ino) for status in files}) < len(files):
        raise BadRemote("records, results and errors need files of their own")


# The exchange


class Exchange:
    """One stream, from its first byte to the exit code."""

    def __init__(
        self,
        remote: Remote,
        model: Iterable[str],
        source: Source,
        results: Sink,
        errors: Sink | None,
        options: argparse.Namespace,
    ) -> None:
        self._remote = remote
        self._model = model
        self._source = source
        self._results = results
        self._errors = errors
        self._options = options
        self._sent = RecordCounter()
        self._lines = AnswerLines("", is_divided=False)
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=31) if options.gzip else None
        num_bytes = None if options.gzip else source.num_bytes  # a length spares both sides the chunks
        self._upload = Upload(source.fd, self._prepared, num_bytes=num_bytes)
        self._lost: Exception | None = None  # how the connection ended, if not by the end of the answer
        self._progress = Progress(source.num_bytes, is_shown=not options.quiet and not os.isatty(results.fd))

    def run(self) -> Exit:
        try:
            self._exchange()
            self._check()
        except Refused as error:
            self._progress.end(f"score: {error}")
            return Exit.REFUSED
        except BrokenPipeError:
            return Exit.CUT  # whoever reads our results has enough, as `| head` does: no word about it
        except KeyboardInterrupt:
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

    def _exchange(self) -> None:
        with self._opened() as (duplex, response):
            self._begin(response)
            duplex.release()
            while data := self._receive(response):
                results, errors = self._lines.feed(data)
                self._results.write(results, duplex.wait)
                if self._errors is not None:
                    self._errors.write(errors, duplex.wait)
                self._progress.show(records=self._lines.records, errors=self._lines.errors, sent_bytes=self._sent.num_bytes)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Duplex, http.client.HTTPResponse]]:
        """The connection, and the head of the answer."""
        connection = self._connection()
        with contextlib.closing(connection), contextlib.ExitStack() as stack:
            try:
                self._send_head(connection)
                duplex = _duplex(connection.sock, self._upload)
                response = stack.enter_context(contextlib.closing(http.client.HTTPResponse(duplex, method="POST")))  # type: ignore[arg-type]
                response.begin()
            except (OSError, http.client.HTTPException) as error:
                raise Refused(f"no answer from {self._remote.url.geturl()}: {error or type(error).__name__}") from None
            yield duplex, response

    def _connection(self) -> http.client.HTTPConnection:
        url = self._remote.url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        return kind(url.netloc, timeout=CONNECT_TIMEOUT_S)

    def _send_head(self, connection: http.client.HTTPConnection) -> None:
        ordered = "&ordered=true" if self._options.ordered else ""
        path = self._remote.path(*self._model)
        connection.putrequest("POST", f"{path}?bulk=true&summary=true{ordered}", skip_accept_encoding=True)
        headers = self._remote.headers | {"Content-Type": "application/x-ndjson", "Expect": "100-continue"}
        if self._compressor is not None:
            headers["Content-Encoding"] = "gzip"
        if self._compressor is None and self._source.num_bytes is not None:
            headers["Content-Length"] = str(self._source.num_bytes)
        else:
            headers["Transfer-Encoding"] = "chunked"
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()

    def _begin(self, response: http.client.HTTPResponse) -> None:
        bulk_id = response.headers.get("X-Bulk-Id")
        if response.status != 200 or bulk_id is None:
            self._refuse(response)
        self._lines = AnswerLines(bulk_id, is_divided=self._errors is not None)
        self._results.begin()
        if self._errors is not None:
            self._errors.begin()

    def _refuse(self, response: http.client.HTTPResponse) -> NoReturn:
        try:
            text = _error_text(response.read(READ_BYTES))
        except (OSError, http.client.HTTPException):
            text = response.reason
        raise Refused(f"{response.status} {text}")

    def _receive(self, response: http.client.HTTPResponse) -> bytes:
        """What has come; nothing at the end, whether that is the true one or not."""
        try:
            return response.read1(READ_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self._lost = error
            return b""

    def _prepared(self, data: bytes) -> bytes:
        """What is sent for a piece of the source; b"" is its end."""
        if data:
            self._sent.feed(data)
            return data if self._compressor is None else self._compressor.compress(data)
        self._sent.finish()
        return b"" if self._compressor is None else self._compressor.flush()

    # The end

    def _check(self) -> None:
        """A clean end whose numbers fit. Several objects on one line are several records, so more than we counted is no fault."""
        lines, summary = self._lines, self._lines.summary
        if lines.failure is not None:
            raise Cut(lines.failure)
        if self._upload.error is not None:
            raise Cut(f"the file cannot be read: {self._upload.error}")
        if self._lost is not None:
            raise Cut("the connection ended early" + (f": {self._lost}" if isinstance(self._lost, OSError) else ""))
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


def _duplex(connection: socket.socket, upload: Upload) -> Duplex:
    """The connection in both directions, which notices when the other machine is gone, however long a model thinks."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 6)
    now = time.monotonic()
    return Duplex(connection, upload, holds_until=now + EXPECT_TIMEOUT_S, deadline=now + HEAD_TIMEOUT_S)


def _error_text(body: bytes) -> str:
    """What a refusal says: our servers say it in `error`, others in their own way."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        text = body.decode("utf-8", "replace").strip()
        return text.splitlines()[0][:200] if text else "without a reason"
