"""Chunks become pieces of at least the size that was asked for, in order and without loss."""

from hypothesis import given
from hypothesis import strategies as st

from engine.pieces import PieceBuilder


@given(st.lists(st.binary(max_size=9)), st.integers(1, 20))
def test_the_pieces_are_the_chunks_joined_and_only_the_last_is_short(chunks: list[bytes], piece_bytes: int) -> None:
    builder = PieceBuilder(piece_bytes)
    pieces = [piece for chunk in chunks if (piece := builder.add(memoryview(chunk))) is not None]
    rest = builder.rest()
    assert all(len(piece) >= piece_bytes for piece in pieces)
    assert len(rest) < piece_bytes
    assert b"".join([*pieces, rest]) == b"".join(chunks)
    assert builder.rest() == b""
