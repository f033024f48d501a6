"""A hub: datasets that are not in the catalogue are looked up there, and their files are fetched when they are needed.

The replica of a pool of its own asks the hub, and no other replica opens a connection (engine/tasks/hub/__init__.py says what it is
asked and gives). What it has fetched is read by the same tasks as any other dataset. Knows no state of the cache.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.errors import EngineError
from engine.jobs import MEMORY_BYTES
from engine.preview.faults import ROWS_ERROR, PreviewFault
from engine.preview.tasks import PreviewFolders, ScannedDataset
from engine.replicas.blocks import Task
from engine.replicas.pool import Pool
from engine.store import JobRow, NewJob
from engine.store.jobs import job_time

log = logging.getLogger("sluice.preview")

POOL = "hub"
# Of a split that is not fetched whole, as much is fetched as its first rows need.
HEAD_BYTES = 8 * 1024 * 1024
HEAD_FORMATS = frozenset({"csv", "tsv", "jsonl", "text"})
# When the hub does not answer, a job is done again after these seconds, and then no more.
AGAIN_AFTER_S = (1, 7, 70)
# What was looked up for a request is known this long, so that nobody makes the server ask again and again.
KNOWN_S = 60.0
MAX_KNOWN = 10_000
MAX_LOOKUPS = 100
# A request waits this long for the hub. When the hub has not answered, nobody asks it again for a moment.
LOOKUP_LIMIT_S = 10.0
SILENT_S = 5.0


def _task(name: str, time_limit_s: float) -> Task:
    return Task(name, family="hub", pool=POOL, time_limit_s=time_limit_s, max_deaths=1, memory_bytes=MEMORY_BYTES)


FIND_TASK, FETCH_TASK, LIST_TASK = _task("hub_find", 60.0), _task("hub_fetch", 300.0), _task("hub_list", 300.0)


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Settings of server/config.py, by the same names."""

    hub_endpoint: str | None
    hf_token: str | None
    max_size_fallback: int


class Hub:
    """What its replica is asked with. `is_on` is False where no hub is set up; then nobody asks."""

    def __init__(self, options: HubOptions, folders: PreviewFolders) -> None:
        self._options = options
        self._folder = folders.hub

    @property
    def is_on(self) -> bool:
        return self._options.hub_endpoint is not None

    def has(self, root: str) -> bool:
        """Whether a dataset with this root was fetched."""
        return root.startswith(f"{self._folder}/")

    def _asked(self, **more: Any) -> dict[str, Any]:
        endpoint = (self._options.hub_endpoint or "").rstrip("/")
        return {"endpoint": endpoint, "token": self._options.hf_token, **more}

    def look_up(self, name: str) -> dict[str, Any]:
        """Whether there is such a dataset."""
        return self._asked(name=name, folder=None)

    def find(self, name: str) -> dict[str, Any]:
        """The same, with README.md and the list of its files."""
        return self._asked(name=name, folder=str(self._folder))

    def list(self, known: Iterable[str], limit: int) -> dict[str, Any]:
        return self._asked(known=list(known), limit=limit)

    def fetch(self, name: str, root: str, files: Sequence[Sequence[Any]], head_bytes: int = 0) -> dict[str, Any]:
        revision = root.rpartition("/")[2]
        return self._asked(name=name, root=root, revision=revision, files=list(files), head_bytes=head_bytes)

    def whole(self, name: str, root: str, header: dict[str, Any]) -> dict[str, Any] | None:
        """What fetches a split, whose files the task `files` has told; None where it is too large."""
        if self.too_large(header) is not None:
            return None
        return self.fetch(name, root, [*header["files"], *header["metadata"]])

    def start(self, name: str, root: str, header: dict[str, Any]) -> dict[str, Any] | None:
        """What fetches as much of a split as its first rows need; None where that cannot be said of its format."""
        if self.too_large(header) is None:
            return self.whole(name, root, header)
        if header["format"] not in HEAD_FORMATS:
            return None
        wanted, total = [], 0
        for file in header["files"]:
            wanted.append(file)
            total += file[1]
            if total >= HEAD_BYTES:
                break
        return self.fetch(name, root, wanted, HEAD_BYTES)

    def too_large(self, header: dict[str, Any]) -> PreviewFault | None:
        """Why a split is not fetched whole."""
        size, limit = sum(file[1] for file in header["files"]), self._options.max_size_fallback
        if size <= limit:
            return None
        text = f"the split has {size:,} bytes, and at most {limit:,} are fetched from the hub"
        return PreviewFault(ROWS_ERROR, "", "TooLargeToFetch", text)


def again(job: JobRow) -> NewJob | None:
    """The same job for a later time; None if it was done again often enough. How long it has waited says how often that was."""
    waited_s = round(_seconds_between(job.created_at, job.not_before)) if job.not_before else 0
    following = next((seconds for seconds in AGAIN_AFTER_S if seconds > waited_s), None)
    if following is None:
        return None
    names = (job.kind, job.key, job.party, job.dataset, job.config, job.split)
    return NewJob(*names, priority=job.priority, generation=job.generation, not_before=job_time(seconds_ago=-following))


def _seconds_between(before: str, after: str) -> float:
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


class Lookups:
    """Looks datasets up for requests, and knows for a while what it has found."""

    def __init__(self, hub: Hub, pool: Pool) -> None:
        self._hub = hub
        self._pool = pool
        self._known: OrderedDict[str, tuple[float, ScannedDataset | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[ScannedDataset | None]] = {}
        self._silent_until = 0.0

    async def close(self) -> None:
        asking = list(self._asking.values())
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def has(self, root: str) -> bool:
        return self._hub.has(root)

    def get(self, name: str) -> ScannedDataset | None:
        """A dataset that was found, however long ago."""
        return self._known[name][1] if name in self._known else None

    async def find(self, name: str) -> ScannedDataset | None:
        """A dataset of the hub; None if there is none, or nobody can say so now."""
        if not self._hub.is_on:
            return None
        known = self._known.get(name)
        if known is not None and time.monotonic() - known[0] < KNOWN_S:
            return known[1]
        asking = self._asking.get(name)
        if asking is None:
            if len(self._asking) >= MAX_LOOKUPS or time.monotonic() < self._silent_until:
                return None
            asking = self._asking[name] = asyncio.create_task(self._ask(name), name=f"look up {name}")
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        done, _ = await asyncio.wait((asking,), timeout=LOOKUP_LIMIT_S)
        return asking.result() if done else None

    async def _ask(self, name: str) -> ScannedDataset | None:
        try:
            answer = await self._pool.run(FIND_TASK, self._hub.look_up(name))
        except EngineError as error:  # its replica has died, or took too long
            self._note_silence(error.message)
            return None
        if text := answer.header.get("unreachable"):
            self._note_silence(text)
            return None
        one = answer.header["dataset"]
        found = ScannedDataset.of_scan(one) if one else None
        self._known[name] = (time.monotonic(), found)
        self._known.move_to_end(name)
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    def _note_silence(self, reason: str) -> None:
        log.warning("hub not reached reason=%r", reason)
        self._silent_until = time.monotonic() + SILENT_S
