"""Files that arrive in chunks: written as they come, a large piece at a time, while the disk keeps its reserve.

Knows nothing of what sends them, nor of what they hold.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from engine.disk import Disk
from engine.pieces import PieceBuilder

# How much is written at once: large enough that we rarely wait for the writing thread, small enough to take little memory.
WRITE_BYTES = 1024 * 1024


async def write_chunks(path: Path, chunks: AsyncIterator[bytes], disk: Disk, *, is_synced: bool = False) -> None:
    """Write a new file. EngineError `disk_full`; OSError, also when there is such a file.

    is_synced  wait at the end until the disk has its content
    """
    file = await asyncio.to_thread(open, path, "xb")
    try:
        pieces = PieceBuilder(WRITE_BYTES)
        async for chunk in chunks:
            if piece := pieces.add(chunk):
                await asyncio.to_thread(_write, file, piece, disk)
        await asyncio.to_thread(_write, file, pieces.rest(), disk)
        if is_synced:
            await asyncio.to_thread(_sync, file)
    finally:
        await asyncio.to_thread(file.close)


def _write(file: BinaryIO, piece: bytes, disk: Disk) -> None:
    disk.check(len(piece))
    file.write(piece)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
