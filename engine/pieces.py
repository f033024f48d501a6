"""Pieces: many small chunks of bytes become few large ones, so that a file or a socket is written to less often.

Knows nothing of where the chunks come from or where the pieces go.
"""

from engine.frames import Buffer


class PieceBuilder:
    """Joins chunks into pieces of at least `piece_bytes`; only what `rest()` returns may be shorter."""

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._chunks: list[Buffer] = []
        self._num_bytes = 0

    def add(self, chunk: Buffer) -> bytes | None:
        """Take one more chunk; the piece if it is large enough now, else None."""
        self._chunks.append(chunk)
        self._num_bytes += len(chunk)
        return self.rest() if self._num_bytes >= self._piece_bytes else None

    def rest(self) -> bytes:
        """The chunks since the last piece, joined; empty when there are none. Call it after the last `add`."""
        piece = b"".join(self._chunks)
        self._chunks, self._num_bytes = [], 0
        return piece
