"""The family as a replica runs it."""

from pathlib import Path

import pytest

from engine.replicas.blocks import Batch
from engine.replicas.replica import Replica


class NoBlocks:
    """Owns a child that is asked directly."""

    def batch_answered(self, *_: object) -> None: ...

    def replica_lost(self, replica: Replica, batches: list[Batch], culprit: Batch | None) -> None: ...


@pytest.fixture
async def child():
    child = Replica(NoBlocks(), name="ingestion")
    await child.start()
    yield child
    await child.stop()


async def test_a_replica_turns_a_file_into_lines_and_keeps_it_open_between_its_parts(child: Replica, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n' * 300_000)
    asked = {"family": "ingestion", "task": "lines", "source": str(tmp_path / "a.jsonl")}
    told, lines = await child.ask({**asked, "part": 0})
    assert told["is_last"] is False
    assert 0 < told["done"] < 1
    num_rows, num_bytes, part = told["rows"], len(lines), 0
    while not told["is_last"]:
        part += 1
        told, lines = await child.ask({**asked, "part": part})
        num_rows += told["rows"]
        num_bytes += len(lines)
    assert (num_rows, num_bytes, told["done"]) == (300_000, 2_700_000, 1.0)


async def test_a_fault_of_ours_is_an_error_and_the_replica_lives_on(child: Replica, tmp_path: Path) -> None:
    asked = {"family": "ingestion", "task": "seal", "staging": str(tmp_path), "blocks": [7], "schema": [], "existing": []}
    told, _ = await child.ask(asked)
    assert told["error"]["code"] == "task_failed"
    told, _ = await child.ask({**asked, "blocks": []})
    assert told["parts"] == [{"size": 0, "segments": [], "columns": []}]
