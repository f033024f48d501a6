"""Checks of cells: what may stand in a column of each form. Each distinct text is looked at once.

Knows no file and no layout.
"""

import datetime
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.tasks.projects.uploads.countries import COUNTRIES
from engine.tasks.projects.uploads.problems import Problems
from engine.tasks.projects.uploads.rows import NO_DAY
from engine.tasks.projects.uploads.types import MEDIA_METRICS, Form, Header

Array = np.ndarray

PLACE = re.compile(r"[a-zA-ZåäöüøæßÅÄÖÜØÆẞ0-9 ()_+-]*")
NUMBER = re.compile(r"[ \t]*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MAX_PLACE_CHARACTERS, MAX_NAME_CHARACTERS = 80, 120
# Numbers in graphs are smaller than this, too; sums of them stay far from the largest float64.
LARGEST = 1e15
# A model of every day of ten thousand years has millions of periods.
FIRST_YEAR, LAST_YEAR = 1900, 2199
EPOCH = datetime.date(1970, 1, 1)
# What stands for bytes that are not UTF-8.
REPLACEMENT = "\ufffd"
MISSING = frozenset({"", "NaN", "null"})
SALES_METRICS = ("UnitsSold", "PricePerUnit", "ProfitPerUnit")


class CellFault(NamedTuple):
    """Why a cell is refused."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cells:
    """One column of a file.

    texts   dictionary of strings; null where a cell is missing. Or float64, when a reader has parsed all cells as numbers
    rows    int64 [cells], where they stand in the file
    label   the header, or in a wide file the letter of the column
    """

    texts: pa.Array
    rows: Array
    label: str

    @property
    def indices(self) -> Array:
        """Of each cell in the dictionary; -1 for a missing one."""
        found: Array = self.texts.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return found


# One text


def fault_of(form: Form, text: str) -> CellFault | None:
    """Why a text may not stand in a column of a form that has no numbers and no dates."""
    if REPLACEMENT in text:
        return CellFault("bad_charset", "The file is not UTF-8, or a character was lost before.")
    if not text.strip():
        return CellFault("missing_value", "Write a value here; no key is empty.")
    match form:
        case Form.COUNTRY:
            is_known = text in COUNTRIES
            return None if is_known else CellFault("bad_country", "Write the three capital letters of ISO 3166, such as SWE.")
        case Form.PLACE:
            return _place_fault(text)
        case Form.MEDIA_METRIC | Form.SALES_METRIC:
            known = MEDIA_METRICS if form == Form.MEDIA_METRIC else SALES_METRICS
            return None if text in known else CellFault("bad_metric", f"Write one of {', '.join(known)}.")
    return _name_fault(text)


def _place_fault(text: str) -> CellFault | None:
    if len(text) > MAX_PLACE_CHARACTERS:
        return CellFault("bad_charset", f"Write at most {MAX_PLACE_CHARACTERS} characters.")
    end = PLACE.match(text).end()  # type: ignore[union-attr]
    return None if end == len(text) else _character_fault(text[end], "letters, digits, space and ( ) _ + -")


def _name_fault(text: str) -> CellFault | None:
    if len(text) > MAX_NAME_CHARACTERS:
        return CellFault("bad_charset", f"Write at most {MAX_NAME_CHARACTERS} characters.")
    if text.isprintable():
        return None
    return _character_fault(next(one for one in text if not one.isprintable()), "printable characters")


def _character_fault(character: str, allowed: str) -> CellFault:
    shown = character if character.isprintable() else f"U+{ord(character):04X}"
    return CellFault("bad_charset", f"The character {shown} may not stand here; write {allowed}.")


def day_of(text: str) -> int | CellFault:
    """The days from 1970-01-01 to a date."""
    if REPLACEMENT in text:
        return CellFault("bad_charset", "The file is not UTF-8, or a character was lost before.")
    try:
        if DATE.fullmatch(text) and FIRST_YEAR <= int(text[:4]) <= LAST_YEAR:
            return (datetime.date.fromisoformat(text) - EPOCH).days
    except ValueError:
        return CellFault("bad_date", "There is no such day.")
    return CellFault("bad_date", f"Write dates as 2018-01-07, from {FIRST_YEAR} to {LAST_YEAR}.")


def number_of(text: str) -> float | CellFault:
    """The number that a text is; its range is checked later."""
    if REPLACEMENT in text:
        return CellFault("bad_charset", "The file is not UTF-8, or a character was lost before.")
    if not NUMBER.fullmatch(text):
        return CellFault("bad_number", "Write numbers as 1234.5, without spaces, commas and units.")
    return float(text)


# One column


def checked_texts(cells: Cells, header: Header, problems: Problems) -> pa.Array:
    """A key without the cells that may not stand there; these, and those that are missing, are noted."""
    faults = [fault_of(header.form, text) for text in cells.texts.dictionary.to_pylist()]
    _note(cells, _of_missing(cells.label), faults, problems)
    is_bad = np.array([fault is not None for fault in faults] + [True])
    if not is_bad[:-1].any():
        return cells.texts
    return pa.DictionaryArray.from_arrays(pa.array(cells.indices, mask=is_bad[cells.indices]), cells.texts.dictionary)


def days(cells: Cells, problems: Problems) -> Array:
    """int32 [cells]: days from 1970-01-01; cells that are missing or no dates are noted, and NO_DAY."""
    found = [day_of(text) for text in cells.texts.dictionary.to_pylist()]
    _note(cells, _of_missing(cells.label), [one if isinstance(one, CellFault) else None for one in found], problems)
    distinct = np.array([NO_DAY if isinstance(one, CellFault) else one for one in found] + [NO_DAY], dtype=np.int32)
    taken: Array = distinct[cells.indices]
    return taken


def numbers(cells: Cells, header: Header, problems: Problems) -> Array:
    """float64 [cells], NaN where a cell is missing; every other cell that is not a number of this form is noted."""
    gap = _of_missing(cells.label) if header.has_no_gaps else None
    if pa.types.is_floating(cells.texts.type):
        values = cells.texts.to_numpy(zero_copy_only=False)
        is_missing = np.isnan(values)
    else:
        found = [number_of(text) for text in cells.texts.dictionary.to_pylist()]
        _note(cells, None, [one if isinstance(one, CellFault) else None for one in found], problems)
        distinct = np.array([0.0 if isinstance(one, CellFault) else one for one in found] + [np.nan])
        values = distinct[cells.indices]
        is_missing = cells.indices < 0
    if gap is not None:
        note_at(cells, is_missing, gap, problems)
    _check_range(cells, values, header.form, problems)
    return values


def _check_range(cells: Cells, values: Array, form: Form, problems: Problems) -> None:
    note_at(cells, np.abs(values) >= LARGEST, CellFault("bad_number", f"Write a number below {LARGEST:.0e}."), problems)
    if form != Form.LEVEL:
        note_at(cells, values < 0, CellFault("negative_value", "Write 0 or more."), problems)
    if form == Form.WHOLE_AMOUNT:
        with np.errstate(invalid="ignore"):
            is_broken = np.isfinite(values) & (values % 1 != 0)
        note_at(cells, is_broken, CellFault("bad_number", "Write a whole number."), problems)


def _of_missing(label: str) -> CellFault:
    return CellFault("missing_value", f"A cell of {label} may not be empty.")


def _note(cells: Cells, of_missing: CellFault | None, faults: list[CellFault | None], problems: Problems) -> None:
    """Note the cells whose text has a fault, and those that are missing, if this is one."""
    by_index = [*faults, of_missing]
    is_bad = np.array([fault is not None for fault in by_index], dtype=bool)
    if not is_bad.any():
        return
    indices = cells.indices
    places = np.flatnonzero(is_bad[indices])
    texts = cells.texts.dictionary

    def told(place: int) -> tuple[str, str, str | None, str | None]:
        index = indices[places[place]]
        fault = by_index[index]
        if fault is None:
            raise ValueError("this is a bug: a cell without a fault is noted")
        return fault.code, fault.message, cells.label, texts[int(index)].as_py() if index >= 0 else None

    problems.add_many(cells.rows[places], told)


def note_at(cells: Cells, is_bad: Array, fault: CellFault, problems: Problems) -> None:
    """Note one fault in some cells."""
    if not is_bad.any():
        return
    places = np.flatnonzero(is_bad)
    shown: Callable[[int], str | None] = lambda place: _shown(cells.texts[int(places[place])].as_py())  # noqa: E731
    problems.add_many(cells.rows[places], lambda place: (fault.code, fault.message, cells.label, shown(place)))


def _shown(value: float | str | None) -> str | None:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
