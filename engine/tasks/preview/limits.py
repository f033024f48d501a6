"""How much of a dataset is read and shown."""

from dataclasses import dataclass, fields

from engine.frames import Header

MAX_CONFIGS = 1000
MAX_SPLITS = 3000
MAX_COLUMNS = 1000
MAX_FILES = 100_000
MAX_DEPTH = 16
# Types come from this many rows, or from the first of them that have this many bytes.
SAMPLE_ROWS = 1000
SAMPLE_BYTES = 32 * 1024 * 1024
# Deeper values are shown as their text.
MAX_NESTING = 64
MAX_README_BYTES = 1024 * 1024
MAX_ROW_GROUP_BYTES = 300_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What settings can change.

    rows_max_bytes      of an answer with rows
    rows_min_number     rows that are shown whatever they weigh
    record_bytes        of one line, csv record or JSON item
    decompressed_bytes  that are unpacked out of one file
    prepare_bytes       of the files of a split that is prepared
    """

    rows_max_bytes: int = 1_000_000
    rows_max_number: int = 100
    rows_min_number: int = 1
    record_bytes: int = 16 * 1024 * 1024
    decompressed_bytes: int = 1024 * 1024 * 1024
    prepare_bytes: int = 5 * 1024 * 1024 * 1024

    @classmethod
    def from_header(cls, header: Header) -> "Limits":
        names = {one.name for one in fields(cls)}
        return cls(**{name: int(value) for name, value in header.items() if name in names and value is not None})
