"""A disk that is short or full costs the streams that need it, says so, and is used again as soon as it has room."""

import json
import socket
import threading
from pathlib import Path

from tests.clients import Raw, answers, spill_files, until
from tests.disks import MIB, fill, small_disk
from tests.serving import Server, serving
from tests.streaming.test_departures import PART, feed, settled

HELLO = "brandon/HelloWorld"


def test_a_disk_that_was_short_for_a_moment_takes_results_again(tmp_path: Path) -> None:
    """A client that sends everything before it reads needs the spill, and an earlier moment of low disk must not take it away."""
    reserve = {"SLUICE_DISK_RESERVE_BYTES": str(64 * MIB)}
    with small_disk(tmp_path / "disk", 256) as disk, serving(disk / "data", **reserve) as server:
        fill(disk / "filler", 180 * MIB)
        with Raw(server, receive_buffer_bytes=4096) as client:
            client.begin(HELLO)
            feed(client)
            until(lambda: server.metric('sluice_streams{state="full"}') == 1)
            (disk / "filler").unlink()
            until(lambda: server.metric("sluice_spill_bytes") > 16 * MIB, 20)
            client.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: settled(server))
        with Raw(server, receive_buffer_bytes=4096) as client:
            client.begin(HELLO)
            for _ in range(100):
                client.chunk(PART)
            client.end()
            until(lambda: spill_files(server))
            client.head()
            assert len(answers(client.rest())) == 200_000
            assert client.has_ended


def test_a_stream_goes_on_when_its_client_reads_although_the_disk_stays_short(tmp_path: Path) -> None:
    """It had begun to spill, so it stood still on the short disk; reading empties the spill without any room on the disk."""
    with small_disk(tmp_path / "disk", 256) as disk, serving(disk / "data", SLUICE_DISK_RESERVE_BYTES=str(64 * MIB)) as server:
        fill(disk / "filler", 180 * MIB)
        with Raw(server, receive_buffer_bytes=4096) as client:
            client.begin(HELLO)
            sender = threading.Thread(target=lambda: [*(client.chunk(PART) for _ in range(100)), client.end()])
            sender.start()
            until(lambda: server.metric('sluice_streams{state="full"}') == 1)
            client.head()
            assert len(answers(client.rest())) == 200_000
            assert client.has_ended
            sender.join(10)


def test_a_late_answer_that_needs_a_short_disk_is_cut_with_that_reason(tmp_path: Path) -> None:
    """Its client takes nothing before the upload ends, so only the spill could keep the results."""
    with small_disk(tmp_path / "disk", 256) as disk, serving(disk / "data", SLUICE_DISK_RESERVE_BYTES=str(64 * MIB)) as server:
        fill(disk / "filler", 180 * MIB)
        with Raw(server) as client:
            client.begin(HELLO, Answer_After_Upload="true")
            sender = feed(client)
            assert client.head().status == 200
            last = json.loads(client.rest().splitlines()[-1])
            assert (last["code"], last["fatal"], client.was_cut) == ("disk_full", True, True)
            client.socket.shutdown(socket.SHUT_RDWR)
            sender.join(10)


def test_a_stream_that_finds_the_disk_full_says_so_in_one_line_and_gives_its_files_back(tmp_path: Path) -> None:
    """A server that looks at the disk just before the next write stops the stream in time: then another stream is tried."""
    with small_disk(tmp_path / "disk", 128) as disk, serving(disk / "data", SLUICE_DISK_RESERVE_BYTES="0") as server:
        while b'"code":"disk_full"' not in (lines := read_after_filling(server, disk / "filler"))[-2]:
            assert "disk full" not in server.log
            assert len(lines) > 100_000  # it went on when it was read
            (disk / "filler").unlink()
            until(lambda: settled(server))
        until(lambda: settled(server))
        assert server.log.count("disk full") == 1
        assert "reason=disk_full" in server.log
        assert "Traceback" not in server.log


def read_after_filling(server: Server, filler: Path) -> list[bytes]:
    """Fill the disk while a stream spills to it; then the lines of the stream's answer, as far as it goes on."""
    with Raw(server, receive_buffer_bytes=4096) as client:
        client.begin(HELLO)
        sender = feed(client)
        until(lambda: spill_files(server))
        fill(filler)
        until(lambda: "disk full" in server.log or server.metric('sluice_streams{state="full"}') == 1)
        client.head()
        lines = client.some(64 * MIB).split(b"\n")
        client.socket.shutdown(socket.SHUT_RDWR)
        sender.join(10)
    return lines
