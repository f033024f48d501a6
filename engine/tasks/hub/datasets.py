"""Datasets of a hub: which there are, and their files as real files of this machine.

A folder holds one revision of one dataset: README.md and the list of all its files come first, the files themselves when they are
needed. Knows no formats and no configs.
"""

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.hub.client import Absent, Client, Unreachable, joined, origin_of

README = "README.md"
MAX_README_BYTES = 4 * 1024 * 1024
MAX_FILES = 100_000
LEAST_FREE_BYTES = 1024 * 1024 * 1024
PAGE = 1000
REVISION = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
# Where the readers of preview find the list.
LISTING = Path(".sluice/hub.json")


def find(client: Client, header: Header) -> Header:
    """The docstring of the family has header and answer of all three. Unreachable."""
    name = header["name"]
    try:
        about = _json(client.whole(f"api/datasets/{quote(name)}?blobs=true")[0])
    except Absent:
        return {"dataset": None}
    if not isinstance(about, dict):
        raise Unreachable("it does not tell of datasets as a hub does")
    revision = _revision(about.get("sha"))
    found = {"name": name, "root": "", "revision": revision, "private": about.get("private") is not False, "card": None}
    if header["folder"] is None:
        return {"dataset": found}
    root = Path(header["folder"]) / revision
    _lay_down(client, name, revision, root, _files(about.get("siblings")))
    return {"dataset": {**found, "root": str(root)}}


def _revision(sha: Any) -> str:
    text = str(sha)
    return text if REVISION.fullmatch(text) else hashlib.blake2b(text.encode(errors="replace"), digest_size=20).hexdigest()


def _files(siblings: Any) -> list[tuple[str, int]]:
    """Paths and sizes, without those that are no paths inside the dataset."""
    found: dict[str, int] = {}
    for one in siblings if isinstance(siblings, list) else ():
        path, size = (one.get("rfilename"), one.get("size")) if isinstance(one, dict) else (None, None)
        if isinstance(path, str) and type(size) is int and size >= 0 and _is_inside(path):
            found[path] = size
    return sorted(found.items())[: MAX_FILES + 1]


def _is_inside(path: str) -> bool:
    parts = path.split("/")
    is_text = path.isprintable() and len(path.encode(errors="replace")) <= 1000
    return is_text and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) and parts[0] != ".sluice"


def _lay_down(client: Client, name: str, revision: str, root: Path, files: list[tuple[str, int]]) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    size = dict(files).get(README)
    if size is not None:
        _fetch(client, name, revision, folder, README, size, min(size, MAX_README_BYTES))
    (folder / LISTING).parent.mkdir(exist_ok=True)
    _write(folder / LISTING, codec.dumps(files))
    _touch(root)


def fetch(client: Client, header: Header) -> Header:
    root, total = Path(header["root"]), 0
    folder = root / header["name"]
    for path, size in header["files"]:
        if not _is_inside(path):
            return {"fetched": total, "refused": f"{path[:200]!r} is not a path inside the dataset"}
        wanted = min(size, header["head_bytes"] or size)
        if shutil.disk_usage(root).free - wanted < LEAST_FREE_BYTES:
            return {"fetched": total, "refused": "the disk has less than 1 GiB free"}
        try:
            total += _fetch(client, header["name"], header["revision"], folder, path, size, wanted)
        except Absent:
            return {"fetched": total, "refused": f"the hub does not give {path[:200]!r} to us"}
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return {"fetched": total, "refused": f"{path[:200]!r} is a file and a folder at once"}
        _touch(root)
    return {"fetched": total, "refused": None}


def _fetch(client: Client, name: str, revision: str, folder: Path, path: str, size: int, wanted: int) -> int:
    """Make a file that has its size, or as much of it as is wanted; how many bytes came. Absent, Unreachable, OSError."""
    target = folder / path
    with contextlib.suppress(OSError):
        if target.stat().st_size in (size, wanted):
            return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{hashlib.blake2b(path.encode(), digest_size=8).hexdigest()}.part")
    address = f"datasets/{quote(name)}/resolve/{quote(revision)}/{quote(path)}"
    with beside.open("wb") as file:
        if wanted:
            for piece in client.pieces(address, wanted, size):
                file.write(piece)
    beside.rename(target)
    return wanted


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".part")
    beside.write_bytes(content)
    beside.rename(path)


def _touch(root: Path) -> None:
    """Nobody names this folder until a job has ended; until then its age tells that it is needed."""
    os.utime(root)


def listed(client: Client, header: Header) -> Header:
    known, path = set(header["known"]), f"api/datasets?limit={PAGE}"
    names: dict[str, None] = {}
    while path and len(names) < header["limit"]:
        try:
            body, following = client.whole(path)
        except Absent:
            raise Unreachable("it has no list of datasets") from None
        page = _json(body)
        ids = [one.get("id") for one in page if isinstance(one, dict)] if isinstance(page, list) else []
        names |= dict.fromkeys(str(one) for one in ids if _is_name(one) and one not in known)
        path = _same_host(header["endpoint"], following) if ids else ""
    return {"names": list(names)[: header["limit"]]}


def _is_name(one: Any) -> bool:
    return isinstance(one, str) and NAME.fullmatch(one) is not None and ".." not in one


def _same_host(endpoint: str, following: str) -> str:
    """Where the list goes on; Unreachable if that is somewhere else."""
    if following and origin_of(joined(f"{endpoint}/", following)) != origin_of(endpoint):
        raise Unreachable("its list goes on at another address")
    return following


def _json(body: bytes) -> Any:
    try:
        return codec.parse_exactly(body)
    except (codec.NotJson, RecursionError):
        raise Unreachable("it does not answer with JSON") from None
