"""Spill: results that wait for a client, in memory first, then in files.

An Outbox is a queue of bytes for one stream: `put` never waits, `get` does. While the client keeps up, the bytes stay in memory.
Once the stream spills, new bytes go to files and are read back from there, all of them and in order. File work runs in a
thread, never on the event loop. Knows nothing of records or of sockets.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.disk import Disk
from engine.frames import Buffer

# The most that `get` returns: what is written to a client's socket at once.
PIECE_BYTES = 256 * 1024
# With more than this in memory a stream pauses; it begins to spill if its client reads nothing.
MEMORY_LIMIT_BYTES = 1024 * 1024
# A client that took nothing for this long while results wait is not reading: it will get them from the spill. A client that is only
# slower than the replicas never waits that long, so its results never touch the disk.
SPILL_AFTER_S = 0.1
# A file is removed when it was read, so a long spill gives its disk space back in steps of this size.
FILE_BYTES = 64 * 1024 * 1024


class Spill:
    """The spill folder, and how many bytes all streams together have in it.

    is_disk_short  when the disk was last looked at, another file would have left less than its reserve
    """

    def __init__(self, folder: Path, disk: Disk, *, limit_bytes: int, total_limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.total_limit_bytes = total_limit_bytes
        self.total_bytes = 0
        self.is_disk_short = False
        self._disk = disk

    def clean(self) -> None:
        """Empty the folder: no stream will read what an earlier process left there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def outbox(self, name: str) -> "Outbox":
        return Outbox(self, name)

    def is_full(self, unread_bytes: int) -> bool:
        """Whether a stream that has this many unread bytes in files must stop producing results."""
        return unread_bytes >= self.limit_bytes or self.total_bytes >= self.total_limit_bytes or self.is_disk_short

    def look_at_disk(self) -> None:
        """Note whether the disk is short of space: once per file, and at intervals while the spill is used or the disk is short.

        Blocks on the disk. A stream that finds the disk short begins no file, so it cannot be the one that looks again.
        """
        self.is_disk_short = not self._disk.has_room(FILE_BYTES)


@dataclass(slots=True)
class SpillFile:
    """One file of a stream's spill, written at its end and read from its beginning."""

    path: Path
    file: BinaryIO
    written_bytes: int = 0
    read_bytes: int = 0

    def append(self, data: bytes) -> None:
        self.file.seek(self.written_bytes)
        self.file.write(data)
        self.file.flush()
        self.written_bytes += len(data)

    def read(self, num_bytes: int) -> bytes:
        self.file.seek(self.read_bytes)
        data = self.file.read(min(num_bytes, self.written_bytes - self.read_bytes))
        self.read_bytes += len(data)
        return data

    def remove(self) -> None:
        with contextlib.suppress(OSError):  # what a full disk did not take is tried again here; the file is closed all the same
            self.file.close()
        self.path.unlink(missing_ok=True)


def num_lines(data: Buffer) -> int:
    """The ends of lines in these bytes: 0.6 ms for a MiB, so this is for what is written to files, or done once."""
    return bytes(data).count(b"\n")


def _remove_all(files: list[SpillFile]) -> None:
    for file in files:
        file.remove()


class Outbox:
    """Bytes on their way to one client, first in, first out."""

    def __init__(self, spill: Spill, name: str) -> None:
        self._spill = spill
        self._name = name
        self._memory: deque[Buffer] = deque()
        self._memory_bytes = 0
        self._late: deque[Buffer] = deque()  # only while spilling: bytes that follow those in the files
        self._late_bytes = 0
        self._spilled_lines = 0
        self._files: deque[SpillFile] = deque()
        self._num_files = 0
        self._file_lock = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._is_closed = False
        self.is_spilling = False
        self.spilled_bytes = 0  # in the files and not read back yet

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory that were not read yet."""
        return self._memory_bytes + self._late_bytes

    @property
    def is_over_memory_limit(self) -> bool:
        """Whether the stream must pause until bytes leave memory.

        While spilling, only the bytes count that are still to be written to a file. The other bytes in memory were there before the
        spill began, and only the client can take them.
        """
        return (self._late_bytes if self.is_spilling else self._memory_bytes) > MEMORY_LIMIT_BYTES

    @property
    def is_disk_short(self) -> bool:
        """Whether results wait on a disk that has no room for more."""
        return self.is_spilling and self._spill.is_disk_short

    @property
    def is_full(self) -> bool:
        """Whether the stream must pause because the spill is at one of its limits."""
        return self.is_spilling and self._spill.is_full(self.spilled_bytes)

    def put(self, data: Buffer) -> None:
        """Append bytes. This never waits: the stream checks `is_over_memory_limit` and `is_full` before it produces more."""
        if self.is_spilling:
            self._late.append(data)
            self._late_bytes += len(data)
            self._start_flusher()
        else:
            self._memory.append(data)
            self._memory_bytes += len(data)
        self._changed.set()

    def close(self) -> None:
        """Say that nothing more will be put; `get` returns None once everything was read."""
        self._is_closed = True
        self._changed.set()

    def begin_spilling(self) -> None:
        """From now on new bytes go to files, until the reader has emptied the files."""
        self.is_spilling = True

    async def get(self) -> Buffer | None:
        """Wait for the next bytes, at most PIECE_BYTES; None after the last."""
        while True:
            if self._memory:
                return self._take_memory()
            if self.spilled_bytes:
                return await self._read_back()
            if self.is_spilling:
                await self._end_spilling()
                continue
            if self._is_closed:
                return None
            self._changed.clear()
            await self._changed.wait()

    async def flushed(self) -> None:
        """While spilling: wait until the bytes that were put so far have left memory. Raises what the disk raises."""
        if self._flusher is not None:
            await asyncio.shield(self._flusher)  # a waiter that is cancelled must not cancel the flusher

    async def num_lines(self) -> int:
        """The lines that `get` has not returned to their ends."""
        async with self._file_lock:  # then no bytes are on their way to a file, where they would count neither here nor there
            return self._spilled_lines + sum(map(num_lines, (*self._memory, *self._late)))

    async def discard(self) -> None:
        """Drop everything and remove the files."""
        self._late.clear()
        if self._flusher is not None:  # we do not cancel it: its thread would go on and leave a file behind
            await asyncio.gather(self._flusher, return_exceptions=True)
        async with self._file_lock:
            files = list(self._files)
            self._files.clear()
            if files:
                await asyncio.to_thread(_remove_all, files)
        self._spill.total_bytes -= self.spilled_bytes
        self._memory.clear()
        self._memory_bytes = self._late_bytes = self.spilled_bytes = 0

    def _take_memory(self) -> Buffer:
        """Cut a large result, or join small ones, so that one write has about PIECE_BYTES. One result that fits is not copied."""
        piece = self._memory.popleft()
        if len(piece) > PIECE_BYTES:
            view = memoryview(piece)
            piece = view[:PIECE_BYTES]
            self._memory.appendleft(view[PIECE_BYTES:])
        elif self._memory and len(piece) + len(self._memory[0]) <= PIECE_BYTES:
            piece = self._join_with_next(piece)
        self._memory_bytes -= len(piece)
        return piece

    def _join_with_next(self, first: Buffer) -> bytes:
        results, num_bytes = [first], len(first)
        while self._memory and num_bytes + len(self._memory[0]) <= PIECE_BYTES:
            results.append(self._memory.popleft())
            num_bytes += len(results[-1])
        return b"".join(results)

    def _start_flusher(self) -> None:
        is_idle = self._flusher is None or (self._flusher.done() and self._flusher.exception() is None)
        if is_idle:  # after an error bytes are missing in the file: we write no more, and `get` raises the error
            self._flusher = asyncio.create_task(self._flush(), name=f"spill {self._name}")

    async def _flush(self) -> None:
        """Write the late bytes to the files until there are none left."""
        while self._late:
            async with self._file_lock:
                data = b"".join(self._late)
                self._late.clear()
                try:
                    lines = await asyncio.to_thread(self._append, data)
                except OSError:
                    self._late.appendleft(data)  # nobody will get these bytes, and so they stay among what was not returned
                    raise
                self._late_bytes -= len(data)
                self._spilled_lines += lines
                self.spilled_bytes += len(data)
                self._spill.total_bytes += len(data)
            self._changed.set()

    def _append(self, data: bytes) -> int:
        """Write bytes at the end of the files; returns their lines."""
        if not self._files or self._files[-1].written_bytes >= FILE_BYTES:
            self._spill.look_at_disk()
            path = self._spill.folder / f"{self._name}-{self._num_files}"
            self._num_files += 1
            self._files.append(SpillFile(path, path.open("w+b")))
        self._files[-1].append(data)
        return num_lines(data)

    async def _read_back(self) -> bytes:
        async with self._file_lock:
            file = self._files[0]
            data, lines = await asyncio.to_thread(_read, file)
            self.spilled_bytes -= len(data)
            self._spill.total_bytes -= len(data)
            if file.read_bytes == file.written_bytes:
                self._files.popleft()
                await asyncio.to_thread(file.remove)
            self._spilled_lines -= lines
        return data

    async def _end_spilling(self) -> None:
        """The reader has emptied the files. Wait for the flusher; when it wrote nothing more, use memory again."""
        if self._flusher is not None:
            await asyncio.shield(self._flusher)  # a reader that is cancelled must not cancel the flusher
        if not self.spilled_bytes:
            self.is_spilling = False


def _read(file: SpillFile) -> tuple[bytes, int]:
    """The next piece of a file, and its lines."""
    data = file.read(PIECE_BYTES)
    return data, num_lines(data)
