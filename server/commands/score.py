"""The command `score`: sends the records of a file through a model, and writes the results into a file or to standard output.

It sends and receives at the same time, in memory that does not grow with the file, and checks the server's summary against what it
sent and received. Knows how a stream begins and ends; server/commands/counting.py knows what the lines say.
"""

import argparse
import contextlib
import enum
import http.client
import os
import signal
import socket
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn

from server.commands.asking import no_answer, not_sluice, reason
from server.commands.counting import AnswerLines, Buffer, RecordCounter
from server.commands.duplex import READ_BYTES, Duplex, Upload
from server.commands.files import Files, LineSink, RecordSource
from server.commands.progress import Progress
from server.commands.remote import Remote, add_arguments, find_remote
from server.commands.tables import FORMATS, TABLES, TableSink, TableSource, Transport, format_of, is_readable, results_only
from server.commands.usage import EXIT_USAGE, Parser, UsageError, program

if TYPE_CHECKING:
    from types import ModuleType

    from server.commands.batches import AnswerRows, SentRows

NDJSON, ARROW = "application/x-ndjson", "application/vnd.apache.arrow.stream"
# The fastest level: a higher one seldom makes up for its time, since few networks are that slow.
GZIP_LEVEL = 1
CONNECT_TIMEOUT_S = 30.0
# We hold the body back this long, so that a refusal can come first. Some proxies pass the answer on only after the body.
EXPECT_TIMEOUT_S = 1.0
# The server answers with its head before it scores the first record, but it may have to load the model first.
HEAD_TIMEOUT_S = 120.0
KEEPALIVE_S = 60


class Exit(enum.IntEnum):
    """Exit codes of the command, for scripts."""

    DONE = 0  # every record has a result
    ERRORS = 1  # every record was answered, some with an error
    CUT = 2  # the stream was cut, the counts differ, or the command was interrupted
    REFUSED = 3  # the server refused the stream before it began, or could not be reached
    USAGE = EXIT_USAGE


DESCRIPTION = "Send the records of a file through a model of a running server, and write the results as they come."
EXITS = (
    "exit codes: 0 every record has a result; 1 some records have an error; 2 the stream was cut or interrupted, or the counts "
    "differ; 3 the server refused the stream or could not be reached; 64 usage error"
)


class NotAdmitted(Exception):
    """The stream did not begin. The message says why."""


class StreamCut(Exception):
    """The stream ended too early, or its counts differ. The message says why."""


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.format = options.format or format_of(options.output)
        needs_lines = options.errors is not None or options.max_errors is not None
        options.transport = Transport.of(options.file, options.format, needs_lines=needs_lines)
        remote = find_remote(options, os.environ)
        model = _model_path(options.model)
        with _opened_files(options) as files:
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            return ScoreRun(remote, model, files, options).run()
    except (UsageError, OSError) as error:
        print(f"score: {error}", file=sys.stderr)
        return Exit.USAGE
    except KeyboardInterrupt:  # before the first record was sent
        print("score: interrupted", file=sys.stderr)
        return Exit.CUT


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=f"{program()} score", description=DESCRIPTION, epilog=EXITS)
    parser.add_argument("model", metavar="OWNER/MODEL")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="one JSON object on each line, or a table: .csv, .tsv, .parquet or .arrow, each row a record; - for lines on standard "
        "input",
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="write the results to this file [standard output]")
    parser.add_argument("--errors", metavar="FILE", help="write the error lines to this file [among the results]")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="ndjson: whole lines; results: what the model says, and nothing else; csv, parquet, arrow: a table, written at the "
        "end. All but ndjson are in the order of the records [what the name of OUT ends in, else ndjson]",
    )
    parser.add_argument("--max-errors", metavar="N", type=_count, help="stop when more than N records have an error [never]")
    parser.add_argument("--ordered", action="store_true", help="write the results in the order of the records")
    parser.add_argument("--gzip", action="store_true", help="compress what is sent")
    parser.add_argument("--quiet", action="store_true", help="show no progress; the last line is still printed")
    add_arguments(parser)
    return parser


def _count(text: str) -> int:
    """A number for the command line. ArgumentTypeError."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of records")
    return int(text)


@contextlib.contextmanager
def _opened_files(options: argparse.Namespace) -> Iterator[Files]:
    """All files of a run. UsageError when two of them are the same file or one is no table; OSError when one cannot be opened."""
    way: Transport = options.transport
    source = RecordSource.opened(options.file)
    if is_readable(options.file):
        source = TableSource.opened(options.file, is_arrow=way.is_arrow_in)
    is_table = options.format in TABLES
    results = LineSink.opened(options.output)
    if is_table:
        results = TableSink.table(options.output, options.format, is_arrow=way.is_arrow_out)
    with source as records, results as sink, contextlib.ExitStack() as stack:
        errors = stack.enter_context(LineSink.opened(options.errors)) if options.errors else None
        files = Files(records, sink, errors)
        files.check_distinct()
        yield files


def batches() -> "ModuleType":
    """What counts rows of record batches. It reads their messages as the server does, and lines need nothing of that."""
    from server.commands import batches as module

    return module


def _model_path(text: str) -> tuple[str, ...]:
    """The segments of the model's path."""
    owner, slash, name = text.partition("/")
    if not owner or not name or "/" in name or not slash:
        raise UsageError(f"{text} does not name a model: write OWNER/MODEL")
    return owner, "models", name


class ScoreRun:
    """One stream, from its first byte to the exit code."""

    def __init__(self, remote: Remote, model_path: Iterable[str], files: Files, options: argparse.Namespace) -> None:
        self._remote = remote
        self._model_path = model_path
        self._files = files
        self._options = options
        self._way: Transport = options.transport
        self._sent: RecordCounter | SentRows = batches().SentRows() if self._way.is_arrow_in else RecordCounter()
        self._lines: AnswerLines | AnswerRows = AnswerLines("", is_divided=False)
        self._compressor = zlib.compressobj(GZIP_LEVEL, wbits=31) if options.gzip else None
        num_bytes = files.source.num_bytes
        # With a known length neither side has to deal with chunks.
        self._upload = Upload(files.source.fd, self._prepared, num_bytes=None if options.gzip else num_bytes)
        self._lost: Exception | None = None  # how the connection ended, unless by the end of the answer
        self._progress = Progress(num_bytes, is_shown=not options.quiet and not os.isatty(files.results.fd))

    def run(self) -> Exit:
        try:
            self._exchange()
            self._check()
            self._progress.close()
            self._files.results.finish()
        except NotAdmitted as error:
            self._progress.end(f"score: {error}")
            return Exit.REFUSED
        except BrokenPipeError:
            return Exit.CUT  # the reader of our results has enough: `| head` ends the command silently
        except KeyboardInterrupt:
            return self._cut("interrupted")
        except (StreamCut, OSError) as error:
            return self._cut(str(error))
        self._progress.end(f"{self._counts()}, {self._rate()}")
        return Exit.ERRORS if self._lines.errors else Exit.DONE

    def _cut(self, why: str) -> Exit:
        self._progress.close()
        with contextlib.suppress(OSError, KeyboardInterrupt):  # the first reason counts, and a second Ctrl-C waits for no table
            self._files.results.finish()
        self._progress.end(f"score: cut after {self._counts()}: {why}")
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
                self._files.results.write(self._shown(results), duplex.wait)
                if self._files.errors is not None:
                    self._files.errors.write(errors, duplex.wait)
                self._check_errors()
                self._progress.show(records=self._lines.records, errors=self._lines.errors, sent_bytes=self._sent.num_bytes)

    def _shown(self, results: list[Buffer]) -> list[Buffer]:
        """What the lines of the answer become in the file of the results."""
        return results_only(results) if self._options.format == "results" else results

    def _check_errors(self) -> None:
        """Raise StreamCut when more records have an error than the caller allows."""
        most = self._options.max_errors
        if most is not None and self._lines.errors > most:
            raise StreamCut(f"more than {most:,} errors (--max-errors)")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Duplex, http.client.HTTPResponse]]:
        """The connection and the answer, once its head has come. NotAdmitted when none comes."""
        connection = self._connection()
        with contextlib.closing(connection), contextlib.ExitStack() as stack:
            try:
                self._send_head(connection)
                duplex = _duplex(connection.sock, self._upload)
                response = stack.enter_context(contextlib.closing(http.client.HTTPResponse(duplex, method="POST")))  # type: ignore[arg-type]
                response.begin()
            except (OSError, http.client.HTTPException) as error:
                raise NotAdmitted(no_answer(self._remote, error)) from None
            yield duplex, response

    def _connection(self) -> http.client.HTTPConnection:
        url = self._remote.url
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        return kind(url.netloc, timeout=CONNECT_TIMEOUT_S)

    def _send_head(self, connection: http.client.HTTPConnection) -> None:
        ordered = "&ordered=true" if self._options.ordered or self._options.format != "ndjson" else ""
        path = self._remote.path(*self._model_path)
        connection.putrequest("POST", f"{path}?bulk=true&summary=true{ordered}", skip_accept_encoding=True)
        kinds = {"Content-Type": self._media_type(self._way.is_arrow_in), "Accept": self._media_type(self._way.is_arrow_out)}
        headers = self._remote.headers | kinds | {"Expect": "100-continue"}
        if self._compressor is not None:
            headers["Content-Encoding"] = "gzip"
        if self._compressor is None and self._files.source.num_bytes is not None:
            headers["Content-Length"] = str(self._files.source.num_bytes)
        else:
            headers["Transfer-Encoding"] = "chunked"
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()

    @staticmethod
    def _media_type(is_arrow: bool) -> str:
        return ARROW if is_arrow else NDJSON

    def _begin(self, response: http.client.HTTPResponse) -> None:
        bulk_id = response.headers.get("X-Bulk-Id")
        if response.status != 200 or bulk_id is None:
            self._refuse(response)
        is_divided = self._files.errors is not None
        self._lines = batches().AnswerRows() if self._way.is_arrow_out else AnswerLines(bulk_id, is_divided=is_divided)
        self._files.results.begin()
        if self._files.errors is not None:
            self._files.errors.begin()

    def _refuse(self, response: http.client.HTTPResponse) -> NoReturn:
        try:
            body = response.read(READ_BYTES)
        except (OSError, http.client.HTTPException):
            body = b""
        raise NotAdmitted(reason(response.status, body) if response.status != 200 else not_sluice(self._remote))

    def _receive(self, response: http.client.HTTPResponse) -> bytes:
        """The next bytes of the answer; b"" at its end, and also when the connection is lost."""
        try:
            return response.read1(READ_BYTES)
        except (OSError, http.client.HTTPException) as error:
            self._lost = error
            return b""

    def _prepared(self, data: bytes) -> bytes:
        """The bytes to send for a piece of the source; the piece b"" is its end."""
        if data:
            self._sent.feed(data)
            return data if self._compressor is None else self._compressor.compress(data)
        self._sent.finish()
        return b"" if self._compressor is None else self._compressor.flush()

    # The end

    def _check(self) -> None:
        """Raise StreamCut unless the stream ended cleanly and its counts agree.

        Several objects on one line are several records, so the server may have answered more records than we counted lines.
        """
        lines, summary = self._lines, self._lines.summary
        if lines.failure is not None:
            raise StreamCut(lines.failure)
        if self._upload.error is not None:
            raise StreamCut(f"the file cannot be read: {self._upload.error}")
        if fault := self._files.source.fault():
            raise StreamCut(f"the file cannot be read: {fault}")
        if self._lost is not None:
            raise StreamCut("the connection ended early" + (f": {self._lost}" if isinstance(self._lost, OSError) else ""))
        if summary is None:
            raise StreamCut("no summary came")
        pairs = {
            "records": (lines.records, summary["records"]),
            "results": (lines.results, summary["results"]),
            "errors": (lines.errors, summary["errors"]),
            "bytes sent": (self._sent.num_bytes, summary["bytes_in"]),
        }
        for what, (ours, theirs) in pairs.items():
            if ours != theirs:
                raise StreamCut(f"counts differ: {ours:,} {what} here, {theirs:,} in the server's summary")
        if summary["records"] < self._sent.records:
            raise StreamCut(f"counts differ: {self._sent.records:,} records were sent, {summary['records']:,} were answered")


def _duplex(connection: socket.socket, upload: Upload) -> Duplex:
    """The connection in both directions. Keep-alive notices when the other machine is gone, however long a model takes."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 6)
    now = time.monotonic()
    return Duplex(connection, upload, holds_until=now + EXPECT_TIMEOUT_S, deadline=now + HEAD_TIMEOUT_S)
