"""The zip archive of a workbook: whether it is safe to open, before a library does. Knows no cells.

A workbook is untrusted: its parts may unpack to gigabytes, hold macros, point to other files, or define entities that grow without
end. None of that is needed to read values, so none of it is let through.
"""

import errno
import struct
import zipfile
import zlib
from pathlib import Path
from xml.parsers import expat

from engine.tasks.projects.uploads.problems import Problems

SIGNATURE = b"PK\x03\x04"
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_RATIO = 100
MAX_PARTS = 1_000
# The shortest text takes 18 bytes here and 60 in memory, and 17 us to read: these are 320 MB and half a minute at most.
MAX_SHARED_BYTES = 32 * 1024 * 1024
# Styles and other parts become trees, which take twenty times their bytes and more.
MAX_PART_BYTES = 8 * 1024 * 1024
# Of one sheet, and from one row to the next: a row of 2,000 cells has a tenth of these.
MAX_SHEET_ROWS, MAX_ELEMENTS = 1_048_576, 50_000_000
MAX_ROW_ELEMENTS, MAX_ROW_BYTES = 100_000, 8 * 1024 * 1024
PIECE_BYTES = 64 * 1024
ROW = "http://schemas.openxmlformats.org/spreadsheetml/2006/main row"
SHEETS = "xl/worksheets/"
SHARED = "sharedstrings.xml"
ENCRYPTED = 0x1
# What zipfile raises where a damaged archive makes it seek to before its start: an OSError of the system, or one of its own.
NO_PLACE = (errno.EINVAL, None)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MACROS = ("vbaproject.bin", "xl/macrosheets/", "xl/dialogsheets/")
LINKS = ("xl/externallinks/", "xl/connections.xml", "xl/querytables/")


class _Refused(Exception):
    """A part of the archive is not let through; says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_archive(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def check(path: Path, problems: Problems) -> None:
    """Note why an archive is not opened, if it is not."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            _check_sizes(parts, path.stat().st_size)
            _check_content(parts)
            for part in parts:
                if part.filename.lower().endswith((".xml", ".rels")):
                    _Markup(is_sheet=part.filename.lower().startswith(SHEETS)).check(archive, part)
    except _Refused as refused:
        problems.add(refused.code, refused.message)
    except expat.ExpatError:
        problems.add("bad_layout", "A part of the workbook is not as a spreadsheet writes it.")
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_PLACE:
            raise
        problems.add("bad_layout", "The file begins as a workbook, but its archive is damaged.")


def _check_sizes(parts: list[zipfile.ZipInfo], num_bytes: int) -> None:
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * num_bytes:
        limit = f"{MAX_UNPACKED_BYTES // 1024**2} MiB, or to more than {MAX_RATIO} times its size"
        raise _Refused("too_many_rows", f"The workbook unpacks to more than {limit}.")
    for part in parts:
        name = part.filename.lower()
        limit_bytes = MAX_SHARED_BYTES if name.endswith(SHARED) else MAX_PART_BYTES
        if not name.startswith(SHEETS) and name.endswith((".xml", ".rels")) and part.file_size > limit_bytes:
            raise _Refused("too_many_rows", "The workbook has more texts, styles or other parts than can be read. Save it as CSV.")


def _check_content(parts: list[zipfile.ZipInfo]) -> None:
    names = [part.filename.lower() for part in parts]
    if len(names) > MAX_PARTS or len(set(names)) < len(names):
        raise _Refused("bad_layout", "The workbook has too many parts, or two of one name.")
    if any(part.flag_bits & ENCRYPTED or part.compress_type not in METHODS for part in parts):
        raise _Refused("bad_layout", "The workbook is encrypted, or packed in an unusual way.")
    if any(name.startswith(MACROS) or name.endswith(MACROS[0]) for name in names):
        raise _Refused("bad_layout", "The workbook has macros. Save it as .xlsx without macros, with values only.")
    if any(name.startswith(LINKS) for name in names):
        raise _Refused("bad_layout", "The workbook has links to other files. Save its values in a new workbook.")
    if "[content_types].xml" not in names:
        raise _Refused("bad_layout", "The file is an archive, but no workbook.")


class _Markup:
    """Walks through one part and keeps nothing of it.

    openpyxl keeps what it has parsed until a row ends, so what stands between two rows is counted. A sheet is read to its end, and
    other parts to their first element: what declares a document type, which is where entities come from, stands before that.
    """

    def __init__(self, *, is_sheet: bool) -> None:
        self._is_sheet = is_sheet
        self._num_rows = self._num_elements = self._num_since = self._last_byte = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.ordered_attributes = True  # lists are made faster than dictionaries
        self._parser.StartElementHandler = self._begin
        self._parser.StartDoctypeDeclHandler = self._refuse

    def check(self, archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
        """ExpatError, _Refused."""
        with archive.open(part) as file:
            done = 0
            while piece := file.read(PIECE_BYTES):
                self._parser.Parse(piece, False)
                done += len(piece)
                if self._num_elements and not self._is_sheet:
                    return
                if done - self._last_byte > MAX_ROW_BYTES:
                    self._refuse()
            self._parser.Parse(b"", True)

    def _begin(self, name: str, attributes: list[str]) -> None:
        self._num_elements += 1
        self._num_since += 1
        if name == ROW:
            self._num_rows += 1
            self._num_since, self._last_byte = 0, self._parser.CurrentByteIndex
            if self._num_rows > MAX_SHEET_ROWS:
                raise _Refused("too_many_rows", f"A sheet has at most {MAX_SHEET_ROWS:,} rows.")
        elif self._num_since > MAX_ROW_ELEMENTS or self._num_elements > MAX_ELEMENTS:
            raise _Refused("too_many_rows", "The sheet has more cells than can be read. Save it as CSV.")

    def _refuse(self, *declared: object) -> None:
        raise _Refused("bad_layout", "A part of the workbook is not as a spreadsheet writes it.")
