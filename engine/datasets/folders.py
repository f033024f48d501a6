"""The folder of one dataset on disk: what a commit writes, in which order, and what a start finds after a crash.

    README.md                    YAML configs that name the Parquet files of the current version: a valid hub layout at any time
    .sluice/HEAD                 number of the current version; its rename is what commits
    .sluice/versions/<n>.json    versions.py
    .sluice/segments/<id>/       rows.parquet and its sidecars, which replicas write
    .sluice/staging/<upload>/    what an upload has written so far; gone after a start

Every function here blocks on the disk: call it in a thread. Knows nothing of callers and of the catalogue.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import ujson

from engine import files
from engine.datasets.versions import DatasetVersion, StoredSegment

HOME = ".sluice"
ROWS_FILE = "rows.parquet"
PAYLOAD_FILE = "payload.arrow"
ARROW_END = b"ARROW1"
FLOAT_BYTES = 4
# Another upload may remove an empty folder between the moment that we make it and the moment that we make one inside.
MAKING_TRIES = 5


class DatasetFolder:
    """The files of one dataset."""

    def __init__(self, root: Path, org: str, name: str) -> None:
        self.path = root / org / name
        self.title = f"{org}/{name}"
        self.segments = self.path / HOME / "segments"
        self._home = self.path / HOME
        self._head = self._home / "HEAD"
        self._versions = self._home / "versions"
        self._staging = self._home / "staging"
        self._readme = self.path / "README.md"

    def head(self) -> int | None:
        """The number of the current version; None when nothing was ever committed, or the dataset was deleted."""
        try:
            return int(self._head.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def is_taken(self) -> bool:
        """Whether there is something here that a new dataset must not replace: files that a person has put here, or a dataset that
        could not be read.
        """
        return self._head.exists() or (self.path.exists() and any(path.name != HOME for path in self.path.iterdir()))

    # Uploads

    def make_staging(self) -> Path:
        """A new folder for the files of an upload."""
        folder = self._staging / secrets.token_hex(16)
        for tries_left in reversed(range(MAKING_TRIES)):
            try:
                folder.mkdir(parents=True)
                break
            except FileNotFoundError:
                if not tries_left:
                    raise
        return folder

    def remove_staging(self, folder: Path) -> None:
        """Remove the folder of an upload, and what is empty above it if no dataset is here.

        A replica may still be writing there: under another name it finds the folder no more.
        """
        gone = folder.with_suffix(".gone")
        with contextlib.suppress(OSError):
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
        self.remove_empty()

    # Commit

    def commit(
        self, version: DatasetVersion, staged: Iterable[Path], previous: DatasetVersion | None, description: str = ""
    ) -> None:
        """Make a version the current one. OSError, such as a full disk: the previous version is as it was.

        staged    folders of new segments, complete and fsynced, which are named as the segments will be
        previous  the current version until now; None for a new dataset
        """
        staged = list(staged)
        try:
            self._put_segments(staged)
            self._write_version(version)
            self.write_readme(version, description)
            if previous is None:
                for folder in (self.path.parent, self.path.parent.parent):  # which may be new as well
                    files.fsync(folder)
            files.replace_text(self._head, f"{version.number}\n")
        except OSError:
            if self.head() == version.number:
                return  # the rename has happened: the version is committed
            self._take_back(version, staged, previous, description)
            raise

    def _put_segments(self, staged: Sequence[Path]) -> None:
        self.segments.mkdir(parents=True, exist_ok=True)
        for folder in staged:
            folder.rename(self.segments / folder.name)
        files.fsync(self.segments)
        files.fsync(self._home)

    def _write_version(self, version: DatasetVersion) -> None:
        self._versions.mkdir(exist_ok=True)
        files.replace_text(self._version_path(version.number), ujson.dumps(version.as_json(), ensure_ascii=False))

    def _take_back(
        self, version: DatasetVersion, staged: Iterable[Path], previous: DatasetVersion | None, description: str
    ) -> None:
        """Remove what a commit that failed has written."""
        with contextlib.suppress(OSError):
            self._version_path(version.number).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._remove_unfinished()
        for folder in staged:
            self.remove_segment(folder.name)
        with contextlib.suppress(OSError):
            if previous is None:
                self._readme.unlink(missing_ok=True)
            else:
                self.write_readme(previous, description)

    def write_readme(self, version: DatasetVersion, description: str) -> None:
        """Write README.md, unless it says the same already."""
        text = readme(self.title, version, description)
        with contextlib.suppress(FileNotFoundError):
            if self._readme.read_text(encoding="utf-8") == text:
                return
        files.replace_text(self._readme, text)

    # What goes

    def remove_versions(self, numbers: Iterable[int]) -> None:
        """Remove versions that are not current. Their segments are removed by `remove_segment`, once nobody names them."""
        for number in numbers:
            self._version_path(number).unlink(missing_ok=True)
        files.fsync(self._versions)

    def remove_segment(self, segment_id: str) -> None:
        shutil.rmtree(self.segments / segment_id, ignore_errors=True)
        self.remove_empty()

    def remove(self) -> None:
        """Delete the dataset, but for the segments. Without its HEAD it is gone, also if we are killed before the rest is."""
        self._head.unlink(missing_ok=True)
        files.fsync(self._home)
        shutil.rmtree(self._versions, ignore_errors=True)
        self._readme.unlink(missing_ok=True)
        self.remove_empty()

    def remove_empty(self) -> None:
        """Remove the folders of a dataset that is not here, as far as they are empty."""
        if self._head.exists():
            return
        for folder in (self._staging, self.segments, self._versions, self._home, self.path, self.path.parent):
            with contextlib.suppress(OSError):  # it is not empty, or not there
                folder.rmdir()

    # Start

    def recover(self) -> dict[int, DatasetVersion]:
        """What is here after a stop or a crash: the versions up to the current one, which is the last; none for no dataset.

        Removes what an upload or a commit has left. ValueError, LookupError: a file of the dataset does not say what it must.
        """
        shutil.rmtree(self._staging, ignore_errors=True)
        self._remove_unfinished()
        head = self.head()
        if head is None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._remove_our_readme()
            self.remove_empty()
            return {}
        versions = self._read_versions(head)
        named = {segment.id for version in versions.values() for segment in version.segments}
        for folder in self.segments.iterdir():
            if folder.name not in named:
                self.remove_segment(folder.name)
        return versions

    def _remove_our_readme(self) -> None:
        """Remove a README.md that we have written; one that a person wrote is not ours to remove."""
        with contextlib.suppress(FileNotFoundError):
            if is_readme_of_ours(self._readme.read_bytes(), self.title):
                self._readme.unlink()

    def _remove_unfinished(self) -> None:
        """Remove files that were about to take the place of others (engine/files.py)."""
        for folder in (self.path, self._home, self._versions):
            for path in folder.glob(".*.new"):
                path.unlink()

    def _read_versions(self, head: int) -> dict[int, DatasetVersion]:
        """The versions by number. A segment that several versions name is one object in all of them."""
        versions: dict[int, DatasetVersion] = {}
        segments: dict[str, StoredSegment] = {}
        for path in sorted(self._versions.glob("*.json"), key=lambda path: int(path.stem)):
            if int(path.stem) > head:
                path.unlink()  # its commit did not come to its end
                continue
            version = DatasetVersion.from_json(ujson.loads(path.read_bytes()), segments)
            versions[version.number] = version
        if head not in versions:
            raise LookupError(f"the file of version {head} is missing")
        return versions

    def damaged(self, versions: Iterable[DatasetVersion]) -> dict[str, DatasetVersion]:
        """Segments that lack a sidecar, by id, each with the last version that names it. A sidecar that is cut short is removed."""
        named = {segment: version for version in versions for segment in version.segments}
        return {segment.id: version for segment, version in named.items() if not self._is_complete(segment, version)}

    def _is_complete(self, segment: StoredSegment, version: DatasetVersion) -> bool:
        """Whether every sidecar is there, after those that are cut short are removed: a replica makes what is missing."""
        folder = self.segments / segment.id
        sizes: dict[str, int | None] = {PAYLOAD_FILE: None}
        for column in version.columns:
            if not segment.has(column):
                continue
            if column.dtype == "vector":
                norms_bytes = FLOAT_BYTES * segment.num_rows
                sizes |= {f"c{column.number}.f32": column.dim * norms_bytes, f"c{column.number}.norm": norms_bytes}
            if column.words:
                sizes[f"c{column.number}.words"] = None
        return all([is_whole_file(folder / name, size) for name, size in sizes.items()])  # a list: each of them is looked at

    def _version_path(self, number: int) -> Path:
        return self._versions / f"{number}.json"


def is_whole_file(path: Path, num_bytes: int | None) -> bool:
    """Whether a sidecar is there and not cut short; one that is gets removed.

    num_bytes  that it must have; None for a file of Arrow, which ends as it begins
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if num_bytes is None:
                file.seek(max(0, size - len(ARROW_END)))
                is_whole = file.read() == ARROW_END
            else:
                is_whole = size == num_bytes
        if not is_whole:
            path.unlink()
    except OSError:  # also when it cannot be read or removed: the replica that mends says why
        return False
    return is_whole


def is_readme_of_ours(content: bytes, title: str) -> bool:
    """Whether `readme` has written this."""
    front, _, body = content.partition(b"\n---\n")
    names_our_files = front == b"---\nconfigs: []" or f'"{HOME}/segments/'.encode() in front
    return front.startswith(b"---\nconfigs:") and names_our_files and body.startswith(f"# {title}\n".encode())


def readme(title: str, version: DatasetVersion, description: str) -> str:
    """A dataset card: which Parquet files are the current version, by config and split. Strings of JSON are strings of YAML."""
    parts: dict[str, dict[str, list[str]]] = {}
    for segment in version.segments:
        parts.setdefault(segment.config, {}).setdefault(segment.split, []).append(f"{HOME}/segments/{segment.id}/{ROWS_FILE}")
    lines = ["---", "configs:" if parts else "configs: []"]
    for config, splits in parts.items():
        lines += [f"- config_name: {json.dumps(config)}", "  data_files:"]
        for split, paths in splits.items():
            lines += [f"  - split: {json.dumps(split)}", "    path:", *(f"    - {json.dumps(path)}" for path in paths)]
    lines += ["---", f"# {title}", "", *([description, ""] if description else [])]
    return "\n".join(lines)
