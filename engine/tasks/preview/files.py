"""The files of a dataset, opened so that none outside it can be reached, whatever a name, a README.md or a link asks for.

A path is opened one part after the other, each relative to the folder before it, and no part may be a symbolic link. Libraries get
the open file, never a path. Knows no formats.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from engine.tasks.preview.failures import TooManyFilesError
from engine.tasks.preview.limits import MAX_DEPTH, MAX_FILES

# As engine/datasets/names.py, which the server has and replicas have not: an org is called as a user may be.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
ORG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe without a writer would be waited for.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SOCKET_EVENTS = frozenset({"socket.connect", "socket.getaddrinfo"})


class OutsideError(PermissionError):
    """A path that leaves its dataset, or is not a regular file of it."""


@dataclass(frozen=True, slots=True)
class File:
    """One regular file of a dataset.

    path      relative, with `/`
    mtime_ns  when its content changed last
    """

    path: str
    size: int
    mtime_ns: int


def refuse_sockets() -> None:
    """No code of this process opens a connection or looks up a host from now on: an address in a dataset stays a text."""

    def refuse(event: str, arguments: object) -> None:
        if event in _SOCKET_EVENTS:
            raise OutsideError("a replica of previews opens no connection")

    sys.addaudithook(refuse)


def is_dataset_name(name: str) -> bool:
    """`name` or `org/name`; no part of it can leave a folder."""
    org, slash, last = name.rpartition("/")
    return ".." not in name and NAME.fullmatch(last) is not None and (not slash or ORG_NAME.fullmatch(org) is not None)


def parts_of(path: str) -> list[str]:
    """The parts of a relative path. OutsideError for one that is absolute, empty, an address, or has `..` or NUL in it."""
    parts = [part for part in path.split("/") if part != "."]
    if "" in parts or ".." in parts or "\0" in path or not parts:
        raise OutsideError(f"{path[:200]!r} is not a path inside the dataset")
    return parts


class Folder:
    """An open folder; a context manager that closes it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of_dataset(cls, root: str, name: str) -> "Folder":
        """The folder of a dataset. Only the root itself, which the operator names, may be a link. OSError."""
        if not is_dataset_name(name):
            raise OutsideError(f"{name[:200]!r} is not the name of a dataset")
        with cls.at(root) as folder:
            return folder.folder(name.split("/"))

    @classmethod
    def at(cls, path: str) -> "Folder":
        """Any folder of this machine, by a path that does not come from a dataset. OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def folder(self, parts: Sequence[str]) -> "Folder":
        """A folder below this one. OSError."""
        here = os.dup(self._descriptor)
        try:
            for part in parts:
                inner = os.open(part, _FOLDER, dir_fd=here)
                os.close(here)
                here = inner
        except BaseException:  # whatever it is, nobody else knows the descriptor
            os.close(here)
            raise
        return Folder(here)

    def open(self, path: str) -> BinaryIO:
        """A regular file below this folder, for reading. OutsideError, or another OSError."""
        *above, last = parts_of(path)
        with self.folder(above) as folder:
            descriptor = os.open(last, _FILE, dir_fd=folder._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OutsideError(f"{path[:200]!r} is not a regular file")
            return os.fdopen(descriptor, "rb")
        except BaseException:  # the same
            os.close(descriptor)
            raise

    def has(self, path: str) -> bool:
        """Whether `open` would open it."""
        try:
            self.open(path).close()
        except (OSError, ValueError):
            return False
        return True

    def entries(self) -> tuple[list[File], list[str]]:
        """The regular files and the folders in this folder, by name; links and devices are left out."""
        files, folders = [], []
        with os.scandir(self._descriptor) as found:
            for entry in found:
                # A name that is not UTF-8 could not travel in a header.
                if not _is_text(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    files.append(File(entry.name, about.st_size, about.st_mtime_ns))
        return sorted(files, key=lambda file: file.path), sorted(folders)

    def walk(self, hidden: Sequence[str] = ()) -> list[File]:
        """All files below, by path. TooManyFilesError.

        hidden  names that begin with a dot and are still walked; all others with a dot are left out
        """
        found: list[File] = []
        for file in self._walk("", 1, frozenset(hidden)):
            found.append(file)
            if len(found) > MAX_FILES:
                raise TooManyFilesError(f"the dataset has more than {MAX_FILES:,} files")
        return sorted(found, key=lambda file: file.path)

    def _walk(self, prefix: str, depth: int, hidden: frozenset[str]) -> Iterator[File]:
        files, folders = self.entries()
        for file in files:
            if not file.path.startswith(".") or file.path in hidden:
                yield File(prefix + file.path, file.size, file.mtime_ns)
        for name in folders:
            if name.startswith(".") and name not in hidden:
                continue
            if depth == MAX_DEPTH:
                raise TooManyFilesError(f"{prefix}{name}: folders are read to a depth of {MAX_DEPTH}")
            with self.folder([name]) as inner:
                yield from inner._walk(f"{prefix}{name}/", depth + 1, hidden)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
