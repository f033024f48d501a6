"""Types of data: which columns a file of each type has, and what its canonical rows make of them. Knows no file."""

import re
from dataclasses import dataclass
from enum import StrEnum

# The name of a type that has no columns of its own.
GENERIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,39}")
ALL = "all"
INVESTMENT = "Investment"
MEDIA_METRICS = ("Impression", INVESTMENT, "GRP", "Reach", "Clicks", "Leads", "Gross")


class Form(StrEnum):
    """What may stand in a column."""

    COUNTRY = "country"
    PLACE = "place"
    NAME = "name"
    MEDIA_METRIC = "media_metric"
    SALES_METRIC = "sales_metric"
    DATE = "date"
    AMOUNT = "amount"
    WHOLE_AMOUNT = "whole_amount"
    LEVEL = "level"


NUMBERS = frozenset({Form.AMOUNT, Form.WHOLE_AMOUNT, Form.LEVEL})


@dataclass(frozen=True, slots=True)
class Header:
    """One column of a file.

    name         as it is written in the file
    column       of the canonical rows
    is_needed    a file without it is refused; if it may be missing, a key is `all` and a value is null
    other_name   what may be written in its place
    has_no_gaps  of a value: an empty cell is refused. Keys never have any
    """

    name: str
    column: str
    form: Form = Form.NAME
    is_needed: bool = True
    other_name: str | None = None
    has_no_gaps: bool = False


@dataclass(frozen=True, slots=True)
class DataType:
    """A type: `Sales`, `Media`, ...; keys are all columns but values."""

    name: str
    keys: tuple[Header, ...]
    values: tuple[Header, ...]
    has_wide_layout: bool = True

    @property
    def headers(self) -> tuple[Header, ...]:
        return self.keys + self.values

    @property
    def date_columns(self) -> tuple[str, ...]:
        return tuple(header.column for header in self.keys if header.form == Form.DATE)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the canonical rows, in order; those that no header fills are null."""
        if self.name == "Sales":
            return tuple(header.column for header in self.headers)
        if self.name == "Events":
            return tuple(header.column for header in self.keys)
        return LONG_COLUMNS + (tuple(header.column for header in _MEDIA_EXTRAS) if self.name == "Media" else ())

    @property
    def sorted_keys(self) -> tuple[str, ...]:
        """The columns of the key in the order of rows. `metric` comes last, so that rows that differ in it alone are neighbours."""
        columns = [header.column for header in self.keys]
        return tuple(sorted(columns, key=lambda column: column == "metric"))


LONG_COLUMNS = ("country", "region", "grouping", "date", "product", "name", "subname", "metric", "value")

_COUNTRY = Header("Country", "country", Form.COUNTRY)
_GROUPING = Header("Grouping", "grouping", Form.PLACE, is_needed=False)
_ANYWHERE = (_COUNTRY, Header("Region", "region", Form.PLACE, is_needed=False), _GROUPING)
_SOMEWHERE = (_COUNTRY, Header("Region", "region", Form.PLACE), _GROUPING)
_DATE = Header("Date", "date", Form.DATE)
_PRODUCT = Header("Product", "product")
_ANY_PRODUCT = Header("Product", "product", is_needed=False)
_METRIC = Header("Metric", "metric", is_needed=False)
_MEDIA_EXTRAS = tuple(
    Header(name, name.lower(), is_needed=False) for name in ("Channel", "Format", "Device", "TargetGroup", "Creative", "Category")
)
_AMOUNT = (Header("Value", "value", Form.AMOUNT),)
_LEVEL = (Header("Value", "value", Form.LEVEL),)


def _named(header: str) -> Header:
    """The column that names a series; every type accepts `Name` in its place."""
    return Header(header, "name", other_name=None if header == "Name" else "Name")


def _measured(name: str) -> DataType:
    return DataType(name, (*_ANYWHERE, _DATE, _ANY_PRODUCT, _named("Metric")), _LEVEL)


_SALES = DataType(
    "Sales",
    (*_SOMEWHERE, _DATE, _PRODUCT),
    (
        Header("UnitsSold", "UnitsSold", Form.AMOUNT, has_no_gaps=True),
        Header("PricePerUnit", "PricePerUnit", Form.AMOUNT),
        Header("ProfitPerUnit", "ProfitPerUnit", Form.LEVEL, is_needed=False),
    ),
)
_MEDIA_KEYS = (_PRODUCT, Header("Media", "name"), Header("Campaign", "subname", is_needed=False))
_MEDIA = DataType(
    "Media",
    (*_ANYWHERE, _DATE, *_MEDIA_KEYS, Header("Metric", "metric", Form.MEDIA_METRIC), *_MEDIA_EXTRAS),
    _AMOUNT,
)
_EVENTS = DataType(
    "Events",
    (*_SOMEWHERE, Header("StartDate", "start", Form.DATE), Header("EndDate", "end", Form.DATE), Header("Event", "event")),
    (),
    has_wide_layout=False,
)
_DISTRIBUTION = DataType(
    "Distribution",
    (*_SOMEWHERE, _DATE, _PRODUCT, Header("Channel", "name")),
    (Header("Value", "value", Form.WHOLE_AMOUNT),),
)
_KNOWN = (
    _SALES,
    _MEDIA,
    _EVENTS,
    _DISTRIBUTION,
    DataType("Visits", (*_ANYWHERE, _DATE, _ANY_PRODUCT, _named("Source"), _METRIC), _AMOUNT),
    DataType("Competitor", (*_ANYWHERE, _DATE, _ANY_PRODUCT, _named("Competitor"), _METRIC), _AMOUNT),
    _measured("Brand"),
    _measured("Customer Experience"),
    _measured("Weather"),
    DataType("Price", (*_ANYWHERE, _DATE, _PRODUCT), _AMOUNT),
    DataType("Macro", (*_ANYWHERE, _DATE, _named("Indicator")), _LEVEL),
)


def word_of(name: str) -> str:
    """The same for all ways to write the name of one type; it is a part of a file's name."""
    return name.replace(" ", "_").lower()


_BY_WORD = {word_of(known.name): known for known in _KNOWN}


def type_of(name: str) -> DataType:
    """The type of a name. ValueError if it cannot be one."""
    if known := _BY_WORD.get(word_of(name)):
        return known
    if not GENERIC_NAME.fullmatch(name):
        raise ValueError("this is a bug: the server checks the names of types")
    return DataType(name, (*_ANYWHERE, _DATE, _ANY_PRODUCT, _named("Name")), _LEVEL)


def place_of(name: str) -> tuple[int, str]:
    """Where a type stands among others: the known ones in their order, then the others by name."""
    words = list(_BY_WORD)
    word = word_of(name)
    return (words.index(word) if word in words else len(words), word)
