"""Folders of pictures or sounds: a row for each file, with the columns of `metadata.csv` or `.jsonl`, else with a label.

The cell of the picture is a path here; media.py opens it.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from engine.tasks.preview import csv_files, json_files
from engine.tasks.preview.csv_files import Records
from engine.tasks.preview.features import AUDIO, IMAGE
from engine.tasks.preview.files import File, Folder
from engine.tasks.preview.formats import IMAGE as IMAGE_FORMAT
from engine.tasks.preview.kinds import BOOL, FLOAT, INT, Kinds
from engine.tasks.preview.layout import Config
from engine.tasks.preview.values import TRUTHS

FILE_NAME = "file_name"
LABEL = "label"


class MediaFolder:
    """The files of one config."""

    def __init__(self, folder: Folder, config: Config, max_record_bytes: int) -> None:
        self._folder = folder
        self._config = config
        self._max_record_bytes = max_record_bytes
        self._column = "image" if config.format == IMAGE_FORMAT else "audio"
        self._names: dict[str, None] = {}
        self._metadata: dict[str, dict[str, Any]] | None = None
        self._labels: tuple[str, ...] | None = None

    def features(self) -> dict[str, Any]:
        """What the names of the files declare: the picture or sound, and its label."""
        features: dict[str, Any] = {self._column: IMAGE if self._column == "image" else AUDIO}
        if not self._config.metadata and self.labels():
            features[LABEL] = {"names": list(self.labels()), "_type": "ClassLabel"}
        return features

    def labels(self) -> tuple[str, ...]:
        """The folders of the files, sorted, if every file is in one and there are two at least."""
        if self._labels is None:
            found = {self._folder_of(file) for split in self._config.splits for file in split.files}
            self._labels = tuple(sorted(filter(None, found))) if None not in found and len(found) > 1 else ()
        return self._labels

    def _folder_of(self, file: File) -> str | None:
        """The folder that a file is in, unless it is that of a split or the top."""
        above = file.path.removeprefix(self._config.base).split("/")[:-1]
        splits = {split.name for split in self._config.splits}
        return above[-1] if above and not (len(above) == 1 and len(splits) > 1) and above[-1] not in splits else None

    def records(self, file: File, names: dict[str, None]) -> Records:
        """The one row of a file. What the readers of metadata raise."""
        row: dict[str, Any] = {self._column: file.path}
        if self._config.metadata:
            noted = {name: None for name in self._noted_names()} | self._noted().get(file.path, {})
            row |= {name: value for name, value in noted.items() if name != self._column}
        elif self.labels():
            row[LABEL] = self._folder_of(file)
        names.update(dict.fromkeys(row))
        yield 1, 1, row

    def _noted_names(self) -> dict[str, None]:
        self._noted()
        return self._names

    def _noted(self) -> dict[str, dict[str, Any]]:
        """The columns of metadata files, by path of the picture or sound; a path that leaves their folder is none."""
        if self._metadata is None:
            self._metadata = {}
            for about in self._config.metadata:
                above = about.path.rpartition("/")[0]
                for record in self._metadata_records(about):
                    name = record.pop(FILE_NAME, None)
                    if isinstance(name, str):
                        self._metadata[f"{above}/{name}" if above else name] = record
            self._names.pop(FILE_NAME, None)
        return self._metadata

    def _metadata_records(self, about: File) -> Iterator[dict[str, Any]]:
        def opened() -> BinaryIO:
            return self._folder.open(about.path)

        found: Records
        if about.path.endswith(".csv"):
            found = csv_files.records(opened, None, None, self._max_record_bytes, self._names)
            yield from _typed([record for _, _, record in found])
        else:
            found = json_files.line_records(opened, self._max_record_bytes, self._names)
            yield from (record for _, _, record in found)


def _typed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of csv, with numbers and truths in the columns that have nothing else."""
    for name in records[0] if records else ():
        kinds = Kinds()
        for record in records:
            kinds.see_text(record[name])
        read = _READERS.get(frozenset(kinds.found))
        for record in records if read else ():
            record[name] = None if record[name] is None or read is None else read(record[name])
    return records


_READERS: dict[frozenset[str], Callable[[str], Any]] = {
    frozenset({INT}): int,
    frozenset({FLOAT}): float,
    frozenset({INT, FLOAT}): float,
    frozenset({BOOL}): TRUTHS.__getitem__,
}
