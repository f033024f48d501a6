"""The command `score`, run as people run it: its exit codes, where its lines go, and what it shows on a terminal."""

import base64
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.bench.records import file_of
from tests.clients import answers, by_id, ndjson, until
from tests.serving import ROOT, Server, serving

HELLO = "brandon/HelloWorld"
IRIS = "sluice/iris"
MIB = 1024 * 1024
TIMEOUT_S = 60


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "server", "score", *map(str, arguments)]


def environment(server: Server | None, **more: str) -> dict[str, str]:
    """The environment of a command, with no setting of ours except where the server is."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    named = {"SLUICE_URL": server.url, "SLUICE_KEY": server.key} if server else {"SLUICE_DATA_DIR": "/nowhere"}
    return plain | named | more


def score(server: Server | None, *arguments: object, data: bytes | None = None, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments),
        input=data,
        capture_output=True,
        cwd=ROOT,
        env=environment(server, **more),
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def running(server: Server, *arguments: object, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command, still running; killed at the end."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    with subprocess.Popen(command(*arguments), cwd=ROOT, env=environment(server), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def names(count: int) -> bytes:
    return ndjson({"name": f"n{i}", "yhat_id": i} for i in range(count))


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.ndjson"
    path.write_bytes(names(1000))
    return path


# All results


def test_every_record_has_its_result_and_the_exit_code_is_0(server: Server, records: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old content that is longer than the results and must be gone " * 10_000)
    done = score(server, HELLO, records, "-o", out)
    assert (done.returncode, done.stdout) == (0, b"")
    assert re.fullmatch(rb"1,000 records: 1,000 results, 0 errors, \d+\.\d s, [\d,]+ records/s\n", done.stderr)
    found = by_id(out.read_bytes())
    assert {i: line["result"]["greeting"] for i, line in found.items()} == {i: f"Hello n{i}" for i in range(1000)}
    assert "summary" not in out.read_text()


def test_results_go_to_standard_output_and_records_come_from_standard_input(server: Server) -> None:
    done = score(server, HELLO, "-", data=names(5000).rstrip(b"\n"))
    assert done.returncode == 0
    assert by_id(done.stdout).keys() == set(range(5000))


def test_an_empty_file_is_a_clean_empty_answer(server: Server, tmp_path: Path) -> None:
    for data in (b"", b"\n \n\t\r\n", b"\xef\xbb\xbf"):
        done = score(server, HELLO, "-", data=data)
        assert (done.returncode, done.stdout) == (0, b"")
        assert done.stderr.startswith(b"0 records: 0 results, 0 errors")
    assert score(server, HELLO, os.devnull).returncode == 0


def test_blank_lines_and_several_objects_on_a_line_fit_the_counts(server: Server) -> None:
    data = b'\xef\xbb\xbf{"name":"a"}\r\n\r\n \t \n{"name":"b"}{"name":"c"}\n\n{"name":"d"}'
    done = score(server, HELLO, "-", data=data)
    assert (done.returncode, len(answers(done.stdout))) == (0, 4)


def test_ordered_keeps_the_order(server: Server, records: Path) -> None:
    records.write_bytes(names(20_000))
    done = score(server, HELLO, records, "--ordered")
    assert [line["yhat_id"] for line in answers(done.stdout)] == list(range(20_000))


@pytest.mark.parametrize("source", ["file", "-"])
def test_gzip_sends_less_and_gives_the_same(server: Server, records: Path, source: str) -> None:
    records.write_bytes(names(30_000))
    name = 'sluice_bytes_total{direction="in"}'
    before = server.metric(name)
    arguments = (records,) if source == "file" else ("-",)
    done = score(server, HELLO, *arguments, "--gzip", data=records.read_bytes() if source == "-" else None)
    assert done.returncode == 0
    assert by_id(done.stdout).keys() == set(range(30_000))
    assert server.metric(name) - before == records.stat().st_size  # decoded


def test_each_result_comes_as_soon_as_its_record_was_sent(server: Server) -> None:
    with running(server, HELLO, "-") as process:
        assert process.stdout is not None
        for i in range(5):
            feed(process, b'{"name":"a","yhat_id":%d}\n' % i)
            assert json.loads(process.stdout.readline())["yhat_id"] == i
        _, noise = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, noise[:10]) == (0, b"5 records:")


def test_results_may_go_through_a_pipe_that_is_read_slowly(server: Server, records: Path) -> None:
    records.write_bytes(names(50_000))
    with running(server, HELLO, records) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(1)  # a slow reader
        out = process.stdout.read()
        assert process.wait(TIMEOUT_S) == 0
        assert by_id(first + out).keys() == set(range(50_000))


def test_a_program_that_sends_everything_before_it_reads_anything_gets_everything(server: Server) -> None:
    with running(server, HELLO, "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        feed(process, names(200_000))
        process.stdin.close()
        assert by_id(process.stdout.read()).keys() == set(range(200_000))
        assert process.wait(TIMEOUT_S) == 0


def test_the_admins_key_is_found_on_the_same_machine(server: Server, records: Path) -> None:
    done = score(None, HELLO, records, "--url", server.url, SLUICE_DATA_DIR=str(server.data_dir))
    assert done.returncode == 0


# Errors


def test_error_lines_stand_among_the_results_and_the_exit_code_is_1(server: Server) -> None:
    done = score(server, HELLO, "-", data=b'{"name":"a","yhat_id":1}\nnothing\n{"yhat_id":3}\n')
    assert done.returncode == 1
    assert sorted(line.get("code", "") for line in answers(done.stdout)) == ["", "invalid_json", "missing_field"]
    assert done.stderr.startswith(b"3 records: 1 results, 2 errors, ")


def test_errors_go_to_their_file(server: Server, tmp_path: Path) -> None:
    data = b"".join(b'{"name":"a","yhat_id":%d}\n' % i if i % 3 else b'{"yhat_id":%d}\n' % i for i in range(30_000))
    errors = tmp_path / "errors"
    done = score(server, HELLO, "-", "--errors", errors, "--ordered", data=data)
    assert done.returncode == 1
    assert [line["yhat_id"] for line in answers(done.stdout)] == [i for i in range(30_000) if i % 3]
    found = answers(errors.read_bytes())
    assert [line["yhat_id"] for line in found] == list(range(0, 30_000, 3))
    assert {line["code"] for line in found} == {"missing_field"}


def test_an_error_file_is_made_and_empty_when_there_are_no_errors(server: Server, records: Path, tmp_path: Path) -> None:
    assert score(server, HELLO, records, "--errors", tmp_path / "errors").returncode == 0
    assert (tmp_path / "errors").read_bytes() == b""


# Cuts


def test_when_the_server_cuts_a_stream_the_command_says_why_and_the_exit_code_is_2(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(tmp_path / "data", SLUICE_DRAIN_S="0.2", SLUICE_SCORE_REPLICAS="1") as server:
        with running(server, HELLO, "-", "-o", out) as process:
            feed(process, names(100))
            until(lambda: out.exists() and out.read_bytes().count(b"\n") == 100)
            server.process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 2
            assert process.stderr is not None
            expected = b"score: cut after 100 records: 100 results, 0 errors: the server is shutting down (shutting_down)\n"
            assert process.stderr.read() == expected
        server.stop()
    assert len(answers(out.read_bytes())) == 100


def test_a_server_that_is_killed_leaves_whole_lines_and_exit_code_2(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        with running(server, HELLO, "-", "-o", out) as process:
            feed(process, names(100))
            until(lambda: out.exists() and out.read_bytes().count(b"\n") == 100)
            server.process.kill()
            assert process.wait(TIMEOUT_S) == 2
            assert process.stderr is not None
            assert process.stderr.read().startswith(
                b"score: cut after 100 records: 100 results, 0 errors: the connection ended early"
            )
        server.stop()


def test_an_interrupt_ends_at_once_with_what_was_received(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(server, HELLO, "-", "-o", out) as process:
            feed(process, names(10))
            until(lambda: out.exists() and out.read_bytes().count(b"\n") == 10)
            started = time.monotonic()
            process.send_signal(number)
            assert process.wait(TIMEOUT_S) == 2
            assert time.monotonic() - started < 5
            assert process.stderr is not None
            assert process.stderr.read() == b"score: cut after 10 records: 10 results, 0 errors: interrupted\n"
        assert len(answers(out.read_bytes())) == 10
        out.unlink()


def test_an_interrupt_ends_a_command_whose_results_nobody_reads(server: Server, records: Path) -> None:
    records.write_bytes(names(50_000))
    with running(server, HELLO, records) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 2


def test_a_reader_that_has_enough_ends_the_command_quietly(server: Server, records: Path) -> None:
    records.write_bytes(names(100_000))
    line = " ".join(command(HELLO, records))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -n 2; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        cwd=ROOT,
        env=environment(server),
        timeout=TIMEOUT_S,
        check=True,
    )
    *lines, code = done.stdout.splitlines()
    assert (len(lines), code, done.stderr) == (2, b"2", b"")


def test_a_file_that_becomes_shorter_while_it_is_sent_is_exit_code_2(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "records"
    path.touch()
    os.truncate(path, 4096 * MIB)  # a sparse file: one long line of zeros that takes no space on the disk
    with running(server, HELLO, path) as process:
        until(lambda: server.metric('sluice_streams{state="running"}') >= 1)
        os.truncate(path, 0)
        assert process.wait(TIMEOUT_S) == 2
        assert process.stderr is not None
        assert re.search(rb"the file cannot be read: it is \d+ bytes shorter than it was\n$", process.stderr.read())


def test_a_full_disk_is_exit_code_2(server: Server, records: Path) -> None:
    done = score(server, HELLO, records, "-o", "/dev/full")
    assert (done.returncode, b"No space left" in done.stderr) == (2, True)


@dataclass(frozen=True, slots=True)
class Pretender:
    """A server that answers every request with given bytes, and keeps the requests that it got."""

    url: str
    requests: list[bytes]


@contextmanager
def pretending(*answer: bytes) -> Iterator[Pretender]:
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            heads.append(connection.recv(65536))
            for part in answer:
                connection.sendall(part)
                if part == GOES_ON:
                    connection.recv(65536)  # the body
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield Pretender(f"http://127.0.0.1:{listener.getsockname()[1]}", heads)
        thread.join(TIMEOUT_S)


BULK_ID = "0" * 32
GOES_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(*lines: str, head: str = f"X-Bulk-Id: {BULK_ID}\r\n", is_whole: bool = True) -> bytes:
    body = "".join(f'{{"bulk_id":"{BULK_ID}",{line}}}\n' for line in lines)
    whole = f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n"
    if body:
        whole += f"{len(body):x}\r\n{body}\r\n"
    return (whole + ("0\r\n\r\n" if is_whole else "")).encode()


RESULT = '"end_time":"","result":1,"start_time":"","version":1,"yhat_id":"a","yhat_model":"m"'


def summary(**counts: int) -> str:
    return '"summary":' + json.dumps({"bytes_in": 12, "errors": 0, "records": 2, "results": 2} | counts)


@pytest.mark.parametrize(
    ("lines", "is_whole", "code", "text"),
    [
        ((RESULT, RESULT, summary()), True, 0, "2 records: 2 results, 0 errors"),
        ((RESULT, summary()), True, 2, "counts differ: 1 records here, 2 in the server's summary"),
        ((RESULT, RESULT, summary(records=3, results=3)), True, 2, "counts differ: 2 records here, 3"),
        ((RESULT, RESULT, summary(errors=1, results=1)), True, 2, "counts differ: 2 results here, 1"),
        ((RESULT, RESULT, summary(bytes_in=11)), True, 2, "counts differ: 12 bytes sent here, 11"),
        ((RESULT, summary(records=1, results=1)), True, 2, "counts differ: 2 records were sent, 1 were answered"),
        ((RESULT, RESULT), True, 2, "no summary came"),
        ((RESULT, RESULT, summary()), False, 2, "the connection ended early"),
        ((RESULT, '"code":"stalled","error":"slow","fatal":true'), False, 2, "slow (stalled)"),
        ((RESULT, '"code":"stalled","error":"slow","fatal":true'), True, 2, "slow (stalled)"),
        ((), False, 2, "the connection ended early"),
    ],
)
def test_counts_that_differ_and_missing_ends_are_noticed(
    tmp_path: Path, lines: tuple[str, ...], is_whole: bool, code: int, text: str
) -> None:
    file = tmp_path / "records"
    file.write_bytes(b"record\nother")
    with pretending(GOES_ON, answer(*lines, is_whole=is_whole)) as server:
        done = score(None, "a/b", file, "--url", server.url)
    assert text in done.stderr.decode()
    assert done.returncode == code
    assert len(answers(done.stdout)) == sum(line == RESULT for line in lines)


# Refusals


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((HELLO, "--key", "wrong"), b"401 Unauthorized"),
        ((HELLO, "--user", "nobody"), b"401 Unauthorized"),
        (("brandon/nothing",), b"404 model not found"),
        ((HELLO, "--url", "http://127.0.0.1:1"), b"no answer from http://127.0.0.1:1"),
    ],
)
def test_a_refusal_is_exit_code_3_and_keeps_the_old_content_of_the_output_file(
    server: Server, records: Path, tmp_path: Path, arguments: tuple[str, ...], text: bytes
) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"results of yesterday\n")
    model, *more = arguments
    done = score(server, model, records, "-o", out, *more)
    assert done.returncode == 3
    assert done.stderr.startswith(b"score: " + text)
    assert out.read_bytes() == b"results of yesterday\n"


def test_a_refused_file_is_not_sent(records: Path) -> None:
    refusal = b'HTTP/1.1 429 Too Many\r\nContent-Length: 28\r\nConnection: close\r\n\r\n{"error":"too many streams"}'
    with pretending(refusal) as server:
        done = score(None, "a/b", records, "--url", server.url)
    assert (done.returncode, done.stderr) == (3, b"score: 429 too many streams\n")
    [head] = server.requests
    assert head.startswith(b"POST /a/models/b?bulk=true&summary=true HTTP/1.1\r\n")
    assert b"Expect: 100-continue" in head
    assert b"Authorization" not in head
    assert b'{"name"' not in head


def test_an_answer_of_another_server_is_exit_code_3(records: Path) -> None:
    for reply in (
        answer(RESULT, head=""),
        b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0\r\n",
    ):
        with pretending(GOES_ON if reply.startswith(b"HTTP/1.1 200") else b"", reply) as server:
            assert score(None, "a/b", records, "--url", server.url).returncode == 3


def test_credentials_are_sent_and_never_printed(server: Server, records: Path) -> None:
    with pretending(GOES_ON, answer(head="")) as pretender:
        done = score(None, "a/b", records, "--url", pretender.url, "--user", "eva", "--key", "s3cret")
    assert base64.b64encode(b"eva:s3cret") in pretender.requests[0]
    assert b"s3cret" not in done.stderr + done.stdout


# Usage


def test_a_usage_error_is_exit_code_64(server: Server, records: Path, tmp_path: Path) -> None:
    wrong: list[tuple[object, ...]] = [
        (),
        (HELLO,),
        (HELLO, records, "more"),
        (HELLO, records, "--nothing"),
        ("HelloWorld", records),
        ("a/b/c", records),
        ("/b", records),
        (HELLO, tmp_path / "nothing"),
        (HELLO, tmp_path),
        (HELLO, records, "-o", tmp_path / "no" / "out"),
        (HELLO, records, "-o", tmp_path),
        (HELLO, records, "-o", records),
        (HELLO, records, "--errors", records),
        (HELLO, records, "-o", tmp_path / "o", "--errors", tmp_path / "o"),
        (HELLO, records, "--url", "somewhere"),
        (HELLO, records, "--port", "9000"),
    ]
    for arguments in wrong:
        done = score(server, *arguments)
        assert (done.returncode, done.stdout) == (64, b""), arguments
        assert done.stderr, arguments
        assert b"Traceback" not in done.stderr
    assert records.read_bytes() == names(1000)


def test_settings_of_the_server_are_refused_as_flags_and_ignored_in_the_environment(server: Server, records: Path) -> None:
    line = [sys.executable, "-m", "server", "--port", "1", "score", HELLO, str(records)]
    done = subprocess.run(line, capture_output=True, cwd=ROOT, env=environment(server), check=False)
    assert (done.returncode, done.stdout) == (64, b"")
    assert score(server, HELLO, records, SLUICE_PORT="nonsense").returncode == 0


def test_help_names_the_exit_codes() -> None:
    done = score(None, "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.decode().split())
    for code in ("0 every record has", "1 some records have", "2 the stream was cut", "3 the server refused", "64 usage error"):
        assert code in text


def test_the_command_starts_without_loading_the_server() -> None:
    program = (
        "import sys, server.commands.score; print(*sorted({'aiohttp', 'engine', 'handlers', 'server.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# The terminal


@dataclass(slots=True)
class Terminal:
    """A terminal, and what was written on it."""

    slave: int
    master: int
    seen: bytearray

    def read_to_end(self) -> str:
        os.close(self.slave)
        try:
            while data := os.read(self.master, 65536):
                self.seen += data
        except OSError:  # Linux reports the end of a terminal as an error
            pass
        return self.seen.decode()


@contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    try:
        yield Terminal(slave, master, bytearray())
    finally:
        os.close(master)


def on_terminal(
    server: Server, *arguments: object, columns: int = 100, is_output: bool = False, data: bytes = b""
) -> tuple[str, float]:
    """What the command wrote on a terminal, and the seconds that it took."""
    with terminal(columns) as screen:
        started = time.monotonic()
        streams = {"stderr": screen.slave, "stdout": screen.slave if is_output else subprocess.DEVNULL}
        with running(server, *arguments, **streams) as process:
            writer = threading.Thread(target=_fed, args=(process, data))
            writer.start()
            reading: list[str] = []
            reader = threading.Thread(target=lambda: reading.append(screen.read_to_end()))
            reader.start()
            for thread in (writer, reader):
                thread.join(TIMEOUT_S)
            process.wait(TIMEOUT_S)
        return reading[0], time.monotonic() - started


def _fed(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(data)


PROGRESS = re.compile(r"[\d,]+ records  \d+%  [\d,]+/s  [\d,]+ errors  ETA \d+:\d\d:\d\d")


@pytest.fixture(scope="module")
def many() -> Path:
    return file_of(IRIS, 200_000)


def test_progress_is_one_line_redrawn_at_most_five_times_a_second(server: Server, many: Path) -> None:
    text, seconds = on_terminal(server, IRIS, many)
    *drawn, last = text.split("\r\x1b[K")
    assert drawn[0] == ""
    assert 1 <= len(drawn[1:]) <= 5 * seconds + 1
    for line in drawn[1:]:
        assert PROGRESS.fullmatch(line), line
    assert re.fullmatch(r"200,000 records: 200,000 results, 0 errors, \S+ s, \S+ records/s\r\n", last)


def test_a_narrow_terminal_cuts_the_line(server: Server, many: Path) -> None:
    text, _ = on_terminal(server, IRIS, many, columns=20)
    assert all(len(line) <= 19 for line in text.split("\r\x1b[K")[:-1])


def test_standard_input_has_no_percentage_and_no_time_left(server: Server, many: Path) -> None:
    text, _ = on_terminal(server, IRIS, "-", data=many.read_bytes())
    _, *drawn, _ = text.split("\r\x1b[K")
    assert drawn
    for line in drawn:
        assert re.fullmatch(r"[\d,]+ records  [\d,]+/s  0 errors", line)


@pytest.mark.parametrize("quiet", [("--quiet",), ()])
def test_quiet_or_results_on_the_same_terminal_leave_only_the_last_line(server: Server, many: Path, quiet: tuple[str, ...]) -> None:
    arguments = (IRIS, many, *quiet) if quiet else (HELLO, "-")
    text, _ = on_terminal(server, *arguments, is_output=not quiet, data=names(50))
    assert "\x1b" not in text
    assert re.search(r"[\d,]+ records: [\d,]+ results, 0 errors, \S+ s, \S+ records/s\r\n$", text)
    assert text.count("\r\n") == (1 if quiet else 51)


# Large files


# A process inherits the peak memory of the process that started it, so this small program starts the command.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def peak_bytes(server: Server, *arguments: object, data_from: Path | None = None) -> int:
    """The peak memory of the command."""
    line = [sys.executable, "-c", MEASURED, *command(*arguments)]
    with open(data_from or os.devnull, "rb") as stdin:
        done = subprocess.run(line, stdin=stdin, stdout=subprocess.PIPE, cwd=ROOT, env=environment(server), check=True)
    return int(done.stdout) * 1024


@pytest.fixture(scope="module")
def big() -> Path:
    """A file of about 50 MB."""
    path = file_of(IRIS, 560_000)
    assert path.stat().st_size > 45 * MIB
    return path


def test_memory_does_not_grow_with_the_file(server: Server, records: Path, big: Path, tmp_path: Path) -> None:
    small = peak_bytes(server, HELLO, records, "-o", tmp_path / "out")
    assert small < 60 * MIB
    assert peak_bytes(server, IRIS, big, "-o", tmp_path / "out") < small + 8 * MIB
    assert peak_bytes(server, IRIS, "-", "--gzip", "-o", tmp_path / "out", data_from=big) < small + 8 * MIB


def test_memory_does_not_grow_while_nobody_reads_the_results(server: Server, big: Path) -> None:
    with running(server, IRIS, big) as process:
        until(lambda: server.metric('sluice_streams{state="spilling"}') + server.metric('sluice_streams{state="finishing"}') >= 1)
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak is not None
        assert int(peak[1]) * 1024 < 68 * MIB


@pytest.mark.heavy
def test_a_million_records(server: Server, tmp_path: Path) -> None:
    """Acceptance 29."""
    out = tmp_path / "out"
    done = score(server, IRIS, file_of(IRIS, 1_000_000), "-o", out)
    assert done.returncode == 0
    assert done.stderr.startswith(b"1,000,000 records: 1,000,000 results, 0 errors")
    ids = set()
    with out.open("rb") as lines:
        for line in lines:
            ids.add(line[line.index(b'"yhat_id":') :])
    assert len(ids) == 1_000_000
