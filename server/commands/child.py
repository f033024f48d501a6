"""A child process, started like a replica, for a command that needs the numeric libraries: this process never loads them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.frames import Header
from engine.replicas.blocks import Batch
from engine.replicas.replica import Replica, ReplicaGone


class NotStarted(Exception):
    """No child could be started. The message says so in one line."""


@asynccontextmanager
async def child() -> AsyncIterator[Replica]:
    """A child that answers `ask`; it ends with the context. NotStarted."""
    replica = Replica(_NoBlocks(), name="child")
    try:
        try:
            await replica.start()
        except (ReplicaGone, OSError):
            raise NotStarted("no child process could be started") from None
        yield replica
    finally:
        await replica.stop()


class _NoBlocks:
    """Owns a child that answers questions and never gets a block, so none of this is called."""

    def batch_answered(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None: ...

    def batch_continued(self, replica: Replica, batch: Batch, header: Header, payload: memoryview) -> None: ...

    def batch_progressed(self, batch: Batch, header: Header) -> None: ...

    def replica_lost(self, replica: Replica, batches: list[Batch], culprit: Batch | None) -> None: ...
