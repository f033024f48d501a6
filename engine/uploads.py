"""Uploads: the files of a model on their way in, written to disk as they come.

Knows names, sizes and the config that was sent. Whether the files make a model is asked elsewhere.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

from engine.errors import EngineError
from engine.model_config import ModelConfig, parse_config
from engine.repository import CONFIG_FILE, GRAPH_FILE

TOKENIZER_FILE = "tokenizer.json"
CONFIG_LIMIT_BYTES = 1024 * 1024
# What is written at once: fewer trips to the thread that writes, and still little memory.
WRITE_BYTES = 1024 * 1024


class Incoming:
    """The files of one upload, in a hidden folder beside the model's versions.

    data_files  names of the files with tensors, as the graph calls them
    """

    def __init__(self, owner: str, name: str, folder: Path, limit_bytes: int) -> None:
        self.owner = owner
        self.name = name
        self.folder = folder
        self.data_files: list[str] = []
        self._limit_bytes = limit_bytes
        self._num_bytes = 0
        self._names: set[str] = set()

    async def receive(self, file_name: str, chunks: AsyncIterator[bytes], *, is_data: bool = False) -> None:
        """Write one file as it comes. EngineError `body_too_large`, `invalid_model` for a second file of a name."""
        if file_name in self._names or (is_data and file_name in (GRAPH_FILE, CONFIG_FILE, TOKENIZER_FILE)):
            raise EngineError("invalid_model", f"the file {file_name} was sent twice")
        self._names.add(file_name)
        if is_data:
            self.data_files.append(file_name)
        file = await asyncio.to_thread(open, self.folder / file_name, "xb")
        try:
            async for piece in _gathered(self._counted(chunks)):
                await asyncio.to_thread(file.write, piece)
        finally:
            await asyncio.to_thread(file.close)

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self._num_bytes += len(chunk)
            if self._num_bytes > self._limit_bytes:
                raise EngineError("body_too_large", f"body larger than {self._limit_bytes} bytes")
            yield chunk

    def config(self) -> ModelConfig | None:
        """The config that was sent, None without one. Blocks on its file. EngineError `body_too_large`, `invalid_model`."""
        if GRAPH_FILE not in self._names:
            raise EngineError("invalid_model", "the part 'model' is missing")
        if CONFIG_FILE not in self._names:
            return None
        path = self.folder / CONFIG_FILE
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise EngineError("body_too_large", f"config larger than {CONFIG_LIMIT_BYTES} bytes")
        try:
            config = parse_config(_with_names(path.read_bytes(), self.owner, self.name))
        except ValueError as error:
            raise EngineError("invalid_model", str(error)) from None
        if (config.owner, config.name) != (self.owner, self.name):
            raise EngineError("invalid_model", f"config.json names {config.owner}/{config.name}, the path {self.owner}/{self.name}")
        return config


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least WRITE_BYTES, but for the last."""
    waiting: list[bytes] = []
    num_bytes = 0
    async for chunk in chunks:
        waiting.append(chunk)
        num_bytes += len(chunk)
        if num_bytes >= WRITE_BYTES:
            yield b"".join(waiting)
            waiting, num_bytes = [], 0
    yield b"".join(waiting)


def _with_names(text: bytes, owner: str, name: str) -> bytes:
    """A config that leaves out what the path says, with that filled in; anything else as it is."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps({"owner": owner, "name": name} | raw).encode() if isinstance(raw, dict) else text
