"""Parts of a file: which bytes a request asks for, as RFC 9110 has it. Plain functions of texts and numbers."""

import re
from email.utils import parsedate_to_datetime

ONE_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)


class NotSatisfiable(Exception):
    """The range begins beyond the end of the file."""


def wanted_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the part that `Range` asks for; None for the whole file. NotSatisfiable.

    One range counts. Several, or something that is no range, are ignored, as a server may (14.2).
    """
    found = ONE_RANGE.fullmatch(header) if header else None
    if found is None or found[0].strip() == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        length = int(last) if last else 0
        if not last:
            return None
        if not length or not size:
            raise NotSatisfiable
        return max(0, size - length), size
    start, end = int(first), int(last) + 1 if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise NotSatisfiable
    return start, min(end, size)


def is_range_current(if_range: str | None, etag: str, modified_s: int) -> bool:
    """Whether `If-Range` lets the range count: it is missing, or it names this very file, by its ETag or its date (13.1.5)."""
    if if_range is None:
        return True
    if if_range.startswith(('"', "W/")):
        return if_range == etag
    return _seconds(if_range) == modified_s


def is_unmodified(if_modified_since: str | None, modified_s: int) -> bool:
    """Whether the client has the file as of this date already (13.1.3). A date that cannot be read says nothing."""
    seconds = _seconds(if_modified_since) if if_modified_since else None
    return seconds is not None and modified_s <= seconds


def _seconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None
