"""The zip archive of a workbook: whether it is safe to open, before a library does. Knows no cells.

A workbook is untrusted: its parts may unpack to gigabytes, hold macros, point to other files, or define entities that grow without
end. None of that is needed to read values, so none of it is let through.
"""

import zipfile
from pathlib import Path
from xml.parsers import expat

from engine.tasks.projects.uploads.problems import Problems

SIGNATURE = b"PK\x03\x04"
MAX_UNPACKED_BYTES = 512 * 1024 * 1024
MAX_RATIO = 100
MAX_PARTS = 1_000
# A text takes 60 bytes of memory and the shortest one 18 bytes here: 64 MiB of texts fit into the memory of a job.
MAX_SHARED_BYTES = 64 * 1024 * 1024
# Styles and other parts become trees, which take twenty times their bytes and more.
MAX_PART_BYTES = 8 * 1024 * 1024
# Declarations and comments before the first element; writers need some hundred bytes.
MAX_PROLOG_BYTES = 64 * 1024
PIECE_BYTES = 4 * 1024
SHEETS = "xl/worksheets/"
SHARED = "sharedstrings.xml"
ENCRYPTED = 0x1
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MACROS = ("vbaproject.bin", "xl/macrosheets/", "xl/dialogsheets/")
LINKS = ("xl/externallinks/", "xl/connections.xml", "xl/querytables/")


class _HasEntities(Exception):
    """A part declares a document type, which is where entities come from."""


def is_archive(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(SIGNATURE)) == SIGNATURE


def check(path: Path, problems: Problems) -> None:
    """Note why an archive is not opened, if it is not."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if message := _size_fault(parts, path.stat().st_size):
                problems.add("too_many_rows", message)
            elif message := _content_fault(parts) or _markup_fault(archive, parts):
                problems.add("bad_layout", message)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, UnicodeDecodeError):
        problems.add("bad_layout", "The file begins as a workbook, but its archive is damaged.")


def _size_fault(parts: list[zipfile.ZipInfo], num_bytes: int) -> str | None:
    unpacked = sum(part.file_size for part in parts)
    if unpacked > MAX_UNPACKED_BYTES or unpacked > MAX_RATIO * num_bytes:
        return f"The workbook unpacks to more than {MAX_UNPACKED_BYTES // 1024**2} MiB, or to more than {MAX_RATIO} times its size."
    for part in parts:
        name = part.filename.lower()
        limit = MAX_SHARED_BYTES if name.endswith(SHARED) else MAX_PART_BYTES
        if not name.startswith(SHEETS) and name.endswith((".xml", ".rels")) and part.file_size > limit:
            return "The workbook has more texts, styles or other parts than can be read. Save its values as CSV."
    return None


def _content_fault(parts: list[zipfile.ZipInfo]) -> str | None:
    names = [part.filename.lower() for part in parts]
    if len(names) > MAX_PARTS or len(set(names)) < len(names):
        return "The workbook has too many parts, or two of one name."
    if any(part.flag_bits & ENCRYPTED or part.compress_type not in METHODS for part in parts):
        return "The workbook is encrypted, or packed in an unusual way."
    if any(name.startswith(MACROS) or name.endswith(MACROS[0]) for name in names):
        return "The workbook has macros. Save it as .xlsx without macros, with values only."
    if any(name.startswith(LINKS) for name in names):
        return "The workbook has links to other files. Save its values in a new workbook."
    if "[content_types].xml" not in names:
        return "The file is an archive, but no workbook."
    return None


def _markup_fault(archive: zipfile.ZipFile, parts: list[zipfile.ZipInfo]) -> str | None:
    """A part that is not XML, or that declares a document type."""
    for part in parts:
        if part.filename.lower().endswith((".xml", ".rels")):
            try:
                _read_prolog(archive, part)
            except (expat.ExpatError, _HasEntities):
                return f"The part {part.filename[:80]!r} of the workbook is not as a spreadsheet writes it."
    return None


def _read_prolog(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Parse a part up to its first element. A document type stands before that. ExpatError, _HasEntities."""
    parser = expat.ParserCreate()
    seen: list[str] = []
    parser.StartElementHandler = lambda name, attributes: seen.append(name)
    parser.StartDoctypeDeclHandler = _refuse_entities
    with archive.open(part) as file:
        for _ in range(MAX_PROLOG_BYTES // PIECE_BYTES):
            piece = file.read(PIECE_BYTES)
            parser.Parse(piece, not piece)
            if seen or not piece:
                return
    raise _HasEntities


def _refuse_entities(*declared: object) -> None:
    raise _HasEntities
