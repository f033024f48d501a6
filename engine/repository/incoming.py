"""Uploads: the files of a model, written to disk while they arrive.

Knows the names and sizes of the files and the config that was sent. Does not know whether the files make a model: a replica checks
that.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from engine.disk import Disk
from engine.errors import BODY_TOO_LARGE, Code, EngineError, Kind
from engine.receiving import write_chunks
from engine.repository.drafts import Draft, parse_draft
from engine.repository.index import CONFIG_FILE, GRAPH_FILE
from engine.repository.quotas import no_room

INVALID_MODEL = Code("invalid_model", Kind.INVALID, "the files that were sent do not make a model that can be served")

TOKENIZER_FILE = "tokenizer.json"
CONFIG_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """How much one upload may take.

    limit_bytes  of one model
    quota_bytes  that its owner may still publish; None where nobody counts
    disk         where it is written, with a reserve that it must leave free
    """

    limit_bytes: int
    quota_bytes: int | None
    disk: Disk


class Incoming:
    """The files of one upload, in a hidden folder beside the model's versions.

    data_files  names of the files with external tensors, as the graph refers to them
    num_bytes   of all files so far
    """

    def __init__(self, owner: str, name: str, folder: Path, room: Room) -> None:
        self.owner = owner
        self.name = name
        self.folder = folder
        self.data_files: list[str] = []
        self.num_bytes = 0
        self._room = room
        self._names: set[str] = set()

    @property
    def is_counted(self) -> bool:
        """Whether the quotas of the owner count for it."""
        return self._room.quota_bytes is not None

    async def receive(self, file_name: str, chunks: AsyncIterator[bytes], *, is_data: bool = False) -> None:
        """Write one file while its chunks arrive.

        is_data  the file contains tensors of the graph
        raises   EngineError `body_too_large`, `quota_exceeded`, `disk_full`; `invalid_model` when a file of this name was sent
                 before
        """
        if file_name in self._names or (is_data and file_name in (GRAPH_FILE, CONFIG_FILE, TOKENIZER_FILE)):
            raise EngineError(INVALID_MODEL, f"the file {file_name} was sent twice")
        self._names.add(file_name)
        if is_data:
            self.data_files.append(file_name)
        await write_chunks(self.folder / file_name, self._counted(chunks), self._room.disk)

    def note_files(self) -> None:
        """Take the files that a replica has written into the folder for those of the upload. Blocks on the disk.

        raises  EngineError `body_too_large`
        """
        sizes = {path.name: path.stat().st_size for path in self.folder.iterdir()}
        self._names |= sizes.keys()
        self.num_bytes += sum(sizes.values())
        if self.num_bytes > self._room.limit_bytes:
            raise self._too_large()

    def draft(self) -> Draft | None:
        """The config that was sent, or None when none was. Blocks on its file. EngineError `body_too_large`, `invalid_model`."""
        if GRAPH_FILE not in self._names:
            raise EngineError(INVALID_MODEL, "the part 'model' is missing")
        if CONFIG_FILE not in self._names:
            return None
        path = self.folder / CONFIG_FILE
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise EngineError(BODY_TOO_LARGE, f"config larger than {CONFIG_LIMIT_BYTES} bytes")
        try:
            return parse_draft(path.read_bytes(), self.owner, self.name)
        except ValueError as error:
            raise EngineError(INVALID_MODEL, str(error)) from None

    async def _counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, as long as all files of the upload together are within the limit."""
        async for chunk in chunks:
            self.num_bytes += len(chunk)
            if self.num_bytes > self._room.limit_bytes:
                raise self._too_large()
            if self._room.quota_bytes is not None and self.num_bytes > self._room.quota_bytes:
                raise no_room(self.owner)
            yield chunk

    def _too_large(self) -> EngineError:
        return EngineError(BODY_TOO_LARGE, f"body larger than {self._room.limit_bytes} bytes")
