"""Reading a split: its files one after the other, as records, whatever their format; and the columns that they turn out to have.

A record is (number of its line, item or row from 1; its bytes; its values by name).
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from engine.frames import Header
from engine.tasks.preview import csv_files, json_files, parquet_files, readme, stored
from engine.tasks.preview.columns import Column, Seen, columns
from engine.tasks.preview.csv_files import Records
from engine.tasks.preview.failures import Failed, JSONDecodeError, ParserError, RecordTooLarge, TooManyBytes, failing_as, too_big
from engine.tasks.preview.features import declared, of_schema
from engine.tasks.preview.files import File, Folder
from engine.tasks.preview.formats import CSV, JSON, JSONL, MEDIA, PARQUET, TEXT, TSV
from engine.tasks.preview.layout import Config, Split, configs, hidden_names
from engine.tasks.preview.limits import MAX_COLUMNS, SAMPLE_BYTES, SAMPLE_ROWS, Limits
from engine.tasks.preview.lines import byte_lines
from engine.tasks.preview.listed import PartlyFetched, is_begun, is_listed, is_whole, listing
from engine.tasks.preview.media_folders import MediaFolder
from engine.tasks.preview.readme import Readme
from engine.tasks.preview.storing import Storing
from engine.tasks.preview.unpacking import DAMAGES, unpacked

TEXT_COLUMN = "text"


def read_readme(folder: Folder, files: Mapping[str, File]) -> Readme:
    """README.md of a dataset, an empty one if there is none. Failed `InfoError`."""
    if readme.README not in files:
        return Readme()
    with failing_as("InfoError"), folder.open(readme.README) as file:
        return readme.read(file)


def list_configs(folder: Folder) -> list[Config]:
    """All configs of a dataset. Failed."""
    with failing_as("SplitsNamesError"):
        top = {file.path: file for file in folder.entries()[0]}
        about = read_readme(folder, top)
        hidden = hidden_names(about)
        return configs(about, listing(folder, hidden) if is_listed(folder) else folder.walk(hidden))


def find_split(folder: Folder, config: str, split: str) -> tuple[Config, Split]:
    """Failed: also `SplitNotFound`, for a split that is not there any more."""
    found = next((one for one in list_configs(folder) if one.name == config), None)
    if found is None:
        raise Failed("SplitNotFound")
    if found.failure is not None:
        raise found.failure
    chosen = found.split(split)
    if chosen is None:
        raise Failed("SplitNotFound")
    return found, chosen


@dataclass(slots=True)
class SplitReader:
    """The rows of one split.

    is_listed   its files come from a hub, and may be here in part
    names       of the columns, in the order in which files bring them; complete when the records are read
    is_cut      the records end before the split does: a packed file is too large, or the rest was not fetched
    """

    folder: Folder
    config: Config
    split: Split
    limits: Limits
    is_listed: bool = False
    names: dict[str, None] = field(default_factory=dict)
    is_cut: bool = False
    _media_folder: MediaFolder | None = None

    @property
    def is_text(self) -> bool:
        """Whether values are texts of csv."""
        return self.config.format in (CSV, TSV)

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.split.files)

    def opened(self, file: File) -> BinaryIO:
        """The content of a file. OSError."""
        return unpacked(self.folder.open(file.path), file.path, self.limits.decompressed_bytes)

    def records(self, *, to_the_end: bool = False) -> Records:
        """The records of all files.

        to_the_end  a file that is too large when it is unpacked is an error, also if it has given records
        raises      what readers raise, with the name of the file if there are several
        """
        num_records = 0
        for file in self.split.files:
            if self.is_listed and not is_whole(self.folder, file):
                if to_the_end or not (num_records or is_begun(self.folder, file)):
                    raise PartlyFetched(f"{file.path} was not fetched whole")
                yield from self._head(file)
                return
            try:
                for record in self._whole(file):
                    num_records += 1
                    yield record
            except TooManyBytes:
                if to_the_end or not num_records:
                    raise
                self.is_cut = True
                return
        self._check_columns()

    def _whole(self, file: File) -> Records:
        """The records of a file. A fault is told with the file where there are several. Failed `TooBigContent`."""
        try:
            for record in self._records_of(file):
                yield record
                self._check_columns()
        except (ParserError, JSONDecodeError, RecordTooLarge) as error:
            if len(self.split.files) > 1:
                raise type(error)(f"{file.path}, {error}") from error
            raise

    def _check_columns(self) -> None:
        if len(self.names) > MAX_COLUMNS:
            raise Failed("TooBigContent", too_big(len(self.names), "columns", MAX_COLUMNS))

    def _head(self, file: File) -> Records:
        """The records of the part of a file that is here, but for the last one, in which it may end."""
        self.is_cut = True
        if not is_begun(self.folder, file):
            return
        before = None
        try:
            for record in self._records_of(file):
                if before is not None:
                    yield before
                before = record
        except (ParserError, JSONDecodeError, RecordTooLarge, *DAMAGES):
            if before is None:
                raise
            yield before  # what is broken off comes behind it

    def _records_of(self, file: File) -> Records:
        def opened() -> BinaryIO:
            return self.opened(file)

        kind = self.config.format
        options = self.config.options
        limit = self.limits.record_bytes
        if kind in (CSV, TSV):
            delimiter = delimiter_of(options, kind)
            return csv_files.records(opened, delimiter, options.get("encoding"), limit, self.names)
        if kind == JSONL:
            return json_files.line_records(opened, limit, self.names)
        if kind == JSON:
            array = options.get("field")
            return json_files.file_records(opened, None if array is None else str(array), limit, self.names)
        if kind == PARQUET:
            return parquet_files.records(opened, self.names)
        if kind == TEXT:
            return _text_records(opened, limit, self.names)
        return self._media().records(file, self.names)

    def _media(self) -> MediaFolder:
        if self._media_folder is None:
            self._media_folder = MediaFolder(self.folder, self.config, self.limits.record_bytes)
        return self._media_folder

    def storing(self) -> Storing:
        """How the values of the records are stored."""
        return Storing(self.folder, is_text=self.is_text, has_json_texts=segment_ids(self.split) is not None)

    # Columns

    def declared(self) -> dict[str, Any]:
        """Features by column: those of README.md, else those that the files themselves declare. Failed `InfoError`."""
        with failing_as("InfoError"):
            found = declared(self.config.features)
        if found is not None:
            return found
        if self.config.format == PARQUET and self.split.files:
            return self._of_parquet()
        if self.config.format in MEDIA:
            return self._media().features()
        return {TEXT_COLUMN: {"dtype": "string", "_type": "Value"}} if self.config.format == TEXT else {}

    def _of_parquet(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for file in self.split.files:
            with self.opened(file) as opened:
                schema = parquet_files.read_schema(opened)[0]
            if len(schema.names) > MAX_COLUMNS:
                raise Failed("TooBigContent", too_big(len(schema.names), "columns", MAX_COLUMNS))
            found = of_schema(schema) | found
        return found | stored.features(self.folder, self.split)

    def columns(self, widened: Mapping[str, Column]) -> list[Column]:
        """The columns, as the first rows decide where nothing is declared. Failed `InfoError`, or what readers raise."""
        features = self.declared()
        seen: dict[str, Seen] = {}
        num_bytes = 0
        for number, (_, size, record) in enumerate(self.records(), 1):
            for name, value in record.items():
                one = seen.setdefault(name, Seen())
                if self.is_text:
                    one.kinds.see_text(value if isinstance(value, str) else None)
                else:
                    one.see(name, value)
            num_bytes += size
            if number == SAMPLE_ROWS or num_bytes >= SAMPLE_BYTES:
                break
        is_typed = self.config.format == PARQUET
        return columns(self.names, seen, features, widened, is_text=self.is_text, is_typed=is_typed)

    def num_examples(self) -> int | None:
        """How many rows the footers say there are; None for other formats."""
        if self.config.format != PARQUET:
            return None
        total = 0
        for file in self.split.files:
            with self.opened(file) as opened:
                total += parquet_files.read_schema(opened)[1]
        return total


def delimiter_of(options: Mapping[str, Any], kind: str) -> str | None:
    """The declared delimiter, a tab for tsv, or None: then the first line tells."""
    given = options.get("sep", options.get("delimiter"))
    if isinstance(given, str) and len(given) == 1:
        return given
    return "\t" if kind == TSV or given in ("\\t", r"\s+") else None


def _text_records(opened: Callable[[], BinaryIO], max_bytes: int, names: dict[str, None]) -> Records:
    names[TEXT_COLUMN] = None
    with opened() as file:
        for number, line in byte_lines(file, max_bytes):
            yield number, len(line), {TEXT_COLUMN: line.decode(errors="replace")}


@contextlib.contextmanager
def opened_split(header: Header) -> Iterator[SplitReader]:
    """The split that a header names. Failed."""
    with failing_as("RowsError"), Folder.of_dataset(header["root"], header["name"]) as folder:
        config, split = find_split(folder, header["config"], header["split"])
        yield SplitReader(folder, config, split, Limits.from_header(header.get("limits") or {}), is_listed(folder))


def widened_columns(header: Header) -> dict[str, Column]:
    """What `prepare` found out about columns, from a header."""
    return {name: Column.from_header(one) for name, one in (header.get("widened") or {}).items()}


_SEGMENT = re.compile(r"\.sluice/segments/([0-9a-f]{32})/rows\.parquet")


def segment_ids(split: Split) -> list[str] | None:
    """The ids of the segments that the files of a split are; None if they are other files."""
    found = [_SEGMENT.fullmatch(file.path) for file in split.files]
    return [one[1] for one in found if one] if found and all(found) else None
