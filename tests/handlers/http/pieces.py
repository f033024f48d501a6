"""A body in pieces, as a socket gives it: for the tests of what reads bodies."""

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

cuts = st.lists(st.integers(0, 300), max_size=30)


def pieces_of(body: bytes, positions: Iterable[int]) -> Iterator[bytes]:
    """The body cut at these positions."""
    start = 0
    for position in sorted(min(position, len(body)) for position in positions):
        yield body[start:position]
        start = position
    yield body[start:]
