"""Hostile statements: each is refused with a 4xx, opens nothing but the data of the request, and disturbs nobody."""

import re
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from tests.clients import until
from tests.query.asking import ask, column, put_table
from tests.query.neighbours import GOOD, Neighbour
from tests.query.statements import hostile, tables
from tests.query.tracing import Trace, can_trace, traced
from tests.serving import ROOT, Server, serving

SECRET = "canary-7f3b9c"
AT_ONCE = 3
# An error quotes at most 80 characters; a quotation mark and a blank around them may stand in the text as well.
LONGEST_QUOTE = 84
# What an error may never tell: what the server is made of.
COMPONENTS = ("duckdb", "sqlglot", "pyarrow", "numpy", "traceback", "engine.tasks", "site-packages", "binder error", "parser error")
# Files of the programs themselves, which they may load late.
PROGRAMS = tuple({sys.prefix, sys.base_prefix, f"{ROOT}/engine", f"{ROOT}/.venv", "/usr/lib", "/lib", "/etc/ld.so"})
SYSTEM = (
    "/proc/self/",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/sys/",
    "/dev/null",
    "/dev/urandom",
    "/etc/localtime",
    "/usr/share/zoneinfo/",
)


@dataclass
class Attack:
    """The answers to all hostile statements, each with and without a dataset in the request."""

    server: Server
    canary: Path
    statements: list[str]
    pids: list[int]
    answers: list[tuple[str, requests.Response]] = field(default_factory=list)
    trace: Trace | None = None

    def run(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for found in threads.map(self._ask, self.statements):
                self.answers += found

    def _ask(self, text: str) -> list[tuple[str, requests.Response]]:
        return [(text, ask(self.server, text)), (text, ask(self.server, text, dataset="admin/books"))]


@pytest.fixture(scope="module")
def fort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with the small datasets, and a file beside its data that nobody may read."""
    folder = tmp_path_factory.mktemp("fort")
    canary = folder / "canary.csv"
    canary.write_text(f"a,b\n{SECRET},1\n")
    with serving(folder / "data") as server:
        for table in tables().values():
            put_table(server, table)
        for _ in range(8):  # both replicas have imported what a query needs
            assert column(server, "select count(*) as n from \"admin/books\" where upper(title) like '%E%'") == [4]
            assert ask(server, GOOD).status_code == 200
        yield server, canary


@pytest.fixture(scope="module")
def attack(fort: tuple[Server, Path]) -> Attack:
    server, canary = fort
    attack = Attack(server, canary, hostile(canary), server.replica_pids())
    if not can_trace(attack.pids):
        attack.run()
        return attack
    with traced(attack.pids, canary.with_name("strace.log")) as attack.trace:
        attack.run()
    return attack


def shown(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}... ({len(text)} characters)"


def test_each_is_refused(attack: Attack) -> None:
    wrong = [(text, answer) for text, answer in attack.answers if not 400 <= answer.status_code < 500]
    assert not wrong, [len(wrong), *((shown(text), answer.status_code, answer.text[:200]) for text, answer in wrong[:20])]


def test_each_refusal_has_a_code_that_is_told_of(attack: Attack) -> None:
    known = {
        *("invalid_body", "invalid_parameter", "unknown_field", "syntax_error", "unsupported", "one_statement", "only_select"),
        *("unknown_column", "ambiguous_column", "duplicate_column", "unknown_function", "type_mismatch", "dimension_mismatch"),
        *("unknown_label", "bad_param", "bad_vector", "arithmetic_error", "too_complex", "result_too_large", "bad_name"),
        *("dataset_not_found", "version_not_found", "model_not_found", "body_too_large", "out_of_memory"),
    }
    wrong = [(shown(text), answer.text) for text, answer in attack.answers if answer.json().get("code") not in known]
    assert not wrong, [len(wrong), *wrong[:20]]


def test_no_refusal_tells_of_files_components_or_much_of_the_text(attack: Attack) -> None:
    for text, answer in attack.answers:
        said = answer.text.lower()
        assert SECRET not in said, shown(text)
        lowered = text.lower()
        told = [name for name in COMPONENTS if name in said and name not in lowered]
        assert not told, f"{told} in {answer.text} of {shown(text)}"
        assert str(attack.server.data_dir) not in answer.text, shown(text)
        body = answer.json()
        message = body["message"] + body.get("hint", "")
        windows = (message[i : i + LONGEST_QUOTE + 1] for i in range(len(message) - LONGEST_QUOTE))
        assert not any(window in text for window in windows), f"{message} of {shown(text)}"


def test_places_lie_in_the_text(attack: Attack) -> None:
    for text, answer in attack.answers:
        if (position := answer.json().get("position")) is not None:
            offset = position["offset"]
            assert 0 <= offset <= len(text), shown(text)
            assert position["line"] == text.count("\n", 0, offset) + 1, shown(text)
            assert position["column"] == offset - (text.rfind("\n", 0, offset) + 1) + 1, shown(text)


def test_nothing_but_the_data_is_opened(attack: Attack) -> None:
    if attack.trace is None:
        pytest.skip("strace is not installed, or may not watch the replicas")
    root = attack.server.data_dir / "datasets"
    # `admin/x` may mean split x of a dataset `admin`: a scan, which opens nothing by a path, looks whether the folder is one.
    scanned = {str(root), *(path.name for path in root.iterdir())}
    opened = attack.trace.opened - scanned
    outside = {path for path in opened if not path.startswith((str(root), *PROGRAMS, *SYSTEM))}
    inside = {path for path in opened if path.startswith(str(root)) and "/.sluice/segments/" not in path}
    assert not outside | inside
    assert not any(str(attack.canary) in call for call in attack.trace.calls)


def test_nothing_is_written_started_or_called(attack: Attack) -> None:
    if attack.trace is None:
        pytest.skip("strace is not installed, or may not watch the replicas")
    for name in ("execve", "connect", "unlink", "rename", "mkdir", "creat"):
        assert not attack.trace.of(name)
    writing = re.compile("O_CREAT|O_WRONLY|O_RDWR|O_TRUNC|O_APPEND")
    assert not [call for call in attack.trace.calls if writing.search(call) and "/dev/null" not in call]


def test_no_replica_has_died(attack: Attack) -> None:
    assert attack.server.replica_pids() == attack.pids
    assert [row["id"] for row in ask(attack.server, GOOD).json()["data"]] == [1, 3, 2]


@pytest.mark.heavy
def test_neighbours_keep_their_latency(fort: tuple[Server, Path]) -> None:
    server, canary = fort
    statements = hostile(canary)
    with Neighbour(server) as alone:
        until(lambda: len(alone.seconds) >= 100, what="the usual latency")
    with Neighbour(server) as beside:
        Attack(server, canary, statements, []).run()
    assert beside.faults == []
    assert statistics.median(beside.seconds) < 10 * statistics.median(alone.seconds) + 0.05
    assert sorted(beside.seconds)[int(len(beside.seconds) * 0.99)] < 1.0
