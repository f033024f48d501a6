"""Finished answers in memory: the bytes that were asked for last, ready to be sent.

Knows no endpoint and no database: who loads an answer says which dataset it belongs to, and who changes a dataset says so.
"""

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.preview.faults import PreviewFault

MIB = 1024 * 1024
LIMIT_BYTES = 64 * MIB
# What an answer takes beside its bytes, about.
OVERHEAD_BYTES = 4096

# Dataset, endpoint, config, split.
Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Ready:
    """One answer with data.

    packed     the same, compressed by gzip; empty where that is not worth it
    etag       16 hex digits; empty for an answer that caches must not compare
    is_stale   it is of an older state of the dataset
    is_whole   False while a part of it is still being made
    fault      why a refresh failed, if one did
    truncated  what `X-Preview-Truncated` says; empty if all is shown
    run        of the pictures and sound of the split
    about      what came with the answer, where its bytes are not sent as they are
    sent       what the layer above has made of it to be sent, by how it is asked for
    """

    plain: bytes
    packed: bytes
    etag: str
    revision: str
    is_stale: bool = False
    is_whole: bool = True
    fault: PreviewFault | None = None
    truncated: str = ""
    run: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    sent: dict[Any, Any] = field(default_factory=dict, init=False, compare=False)


def etag_of(body: bytes) -> str:
    """16 hex digits of the uncompressed bytes."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


class Answers:
    """The answers that were asked for last, up to LIMIT_BYTES."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._kept: OrderedDict[Key, Ready] = OrderedDict()
        self._keys: dict[str, set[Key]] = {}
        self._changes: Counter[str] = Counter()
        self._all_changes = 0

    def get(self, key: Key) -> Ready | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def moment(self, name: str) -> int:
        """A number that is another one after every change of a dataset."""
        return self._changes[name] + self._all_changes

    def put(self, key: Key, ready: Ready, moment: int) -> None:
        """Keep an answer that was loaded at a moment, unless the dataset has changed since then."""
        if moment != self.moment(key[0]) or _size(ready) > self._limit_bytes:
            return
        self._forget(key)
        self._kept[key] = ready
        self._keys.setdefault(key[0], set()).add(key)
        self._bytes += _size(ready)
        while self._bytes > self._limit_bytes:
            self._forget(next(iter(self._kept)))

    def changed(self, name: str | None) -> None:
        """Forget the answers of a dataset, or all."""
        if name is None:
            self._all_changes += 1
            self._kept.clear()
            self._keys.clear()
            self._bytes = 0
            return
        self._changes[name] += 1
        for key in list(self._keys.get(name, ())):
            self._forget(key)

    def _forget(self, key: Key) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._bytes -= _size(gone)
            self._keys[key[0]].discard(key)
            if not self._keys[key[0]]:
                del self._keys[key[0]]


def _size(ready: Ready) -> int:
    return len(ready.plain) + len(ready.packed) + OVERHEAD_BYTES
