"""Files as the parts of a form (multipart/form-data), read while they are sent: models may be larger than the memory."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part: its name in the form, and the file that it holds. OSError when there is no such file."""

    part: str
    path: Path
    num_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        with self.path.open("rb") as file:  # a file that cannot be read is told of before anything is sent
            object.__setattr__(self, "num_bytes", os.fstat(file.fileno()).st_size)

    def chunks(self) -> Iterator[bytes]:
        """The content. OSError when the file has become shorter meanwhile."""
        num_left = self.num_bytes
        with self.path.open("rb") as file:
            while num_left and (data := file.read(min(READ_BYTES, num_left))):
                num_left -= len(data)
                yield data
        if num_left:
            raise OSError(f"{self.path} is {num_left} bytes shorter than it was")


class Multipart:
    """A body and the headers that describe it."""

    def __init__(self, files: list[PartFile]) -> None:
        self._files = files
        self._boundary = secrets.token_hex(16)

    @property
    def headers(self) -> dict[str, str]:
        heads = sum(len(self._head(file)) + file.num_bytes for file in self._files)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(heads + 2 * len(self._files) + len(self._end)),
        }

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece."""
        for file in self._files:
            yield self._head(file)
            yield from file.chunks()
            yield b"\r\n"
        yield self._end

    def _head(self, file: PartFile) -> bytes:
        name = file.path.name.replace("\\", "%5C").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        disposition = f'Content-Disposition: form-data; name="{file.part}"; filename="{name}"'
        return f"--{self._boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()
