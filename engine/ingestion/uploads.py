"""Ingestion: the lines of an upload become rows of a new version of a dataset, all of them or, when asked to skip, all good ones.

The lines travel in blocks to replicas of the pool `jobs`. They write what they parsed into a staging folder and give back the texts
to embed; these go through the pool `score` as those of a long embeddings request do. At the end one replica seals the segments, and
the commit makes them a version. Nothing that breaks off leaves anything behind. Knows no HTTP, and never parses a line.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from engine.columns import Column
from engine.datasets import Dataset, DatasetChanges
from engine.datasets.changes import NewRows
from engine.datasets.folders import DatasetFolder
from engine.datasets.versions import DEFAULT_CONFIG, StoredSegment
from engine.datasets.work import BAD_ROW, INGEST, SEAL, VECTORS, ask, columns_for_task, staged_folder
from engine.errors import INVALID_PARAMETER, RECORD_CODES, TOO_MANY_REQUESTS, DetailedError, EngineError
from engine.ingestion.orders import Embedder, Order, Uploaded
from engine.replicas.blocks import Answer
from engine.replicas.lines import LineQueue, Lines, LineSpan
from engine.replicas.pool import Pool

# Bytes of lines in one block: 10 to 50 ms of work, and little memory.
BLOCK_BYTES = 1024 * 1024
# Lines of a block whose texts are embedded: with 384 numbers each, their vectors take 6 MiB.
EMBEDDED_LINES = 4096
# Blocks of one user in work, for each replica: one that it works on, and one behind it.
BLOCKS_PER_REPLICA = 2
# Lists of texts of one user in the pool `score`: one that comes to its end, and the next.
LISTS_PER_USER = 2
MAX_UPLOADS = 8
MAX_ERRORS = 20
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class IngestionLimits:
    """Settings of server/config.py, by the same names."""

    max_uploads_per_user: int


class Ingestion:
    """The uploads of rows to datasets."""

    def __init__(self, changes: DatasetChanges, jobs: Pool, embedder: Embedder, limits: IngestionLimits) -> None:
        self.changes = changes
        self.jobs = jobs
        self.embedder = embedder
        self._limits = limits
        self._uploads: Counter[str] = Counter()  # by user
        self._open: set[Upload] = set()
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()

    def check_capacity(self, user: str) -> None:
        """Refuse an upload before its body comes. EngineError `too_many_requests`."""
        if self._uploads[user] >= self._limits.max_uploads_per_user or self._uploads.total() >= MAX_UPLOADS:
            raise EngineError(TOO_MANY_REQUESTS, "too many uploads", retry_after_s=5)

    @contextlib.asynccontextmanager
    async def upload(self, order: Order) -> AsyncIterator["Upload"]:
        """A place for an upload; what is still in it at the end is removed. EngineError `too_many_requests`, `dataset_exists`."""
        self.check_capacity(order.user)
        self._uploads[order.user] += 1
        try:
            folder = await self.changes.folder(order.org, order.name)
            staging = await asyncio.to_thread(folder.make_staging)
            upload = Upload(self, order, folder, staging, self._share(order.user))
            self._open.add(upload)
            try:
                yield upload
            finally:
                self._open.discard(upload)
                await upload.close()
                await asyncio.to_thread(folder.remove_staging, staging)
        finally:
            self._uploads -= Counter({order.user: 1})  # a user without uploads is not kept

    def coming_bytes(self, org: str) -> int:
        """About the bytes that open uploads will add to the datasets of an owner."""
        return sum(upload.num_bytes for upload in self._open if upload.order.org == org)

    def _share(self, user: str) -> "Share":
        return self._shares.setdefault(user, Share(self.jobs.size))


class Share:
    """What one user may have in work at once, in all uploads together, so that each user is served alike."""

    def __init__(self, num_replicas: int) -> None:
        self.blocks = asyncio.Semaphore(BLOCKS_PER_REPLICA * max(1, num_replicas))
        self.lists = asyncio.Semaphore(LISTS_PER_USER)


class Upload:
    """One upload: `feed` it all lines of its body, then `finish` it.

    A method raises the EngineError that refuses the upload; nothing else can be done with it then.

    num_bytes  of the lines and vectors so far
    """

    def __init__(self, ingestion: Ingestion, order: Order, folder: DatasetFolder, staging: Path, share: Share) -> None:
        self._ingestion = ingestion
        self.order = order
        self._folder = folder
        self._staging = staging
        self._share = share
        self._queue = LineQueue()
        self._schema: list[dict[str, Any]] | None = None
        self._num_blocks = 0
        self.num_bytes = 0
        self._num_skipped = 0
        self._errors: list[dict[str, Any]] = []
        self._parsing: set[asyncio.Task[bool]] = set()
        self._embedding: set[asyncio.Task[None]] = set()
        self._faults: list[BaseException] = []

    @property
    def _changes(self) -> DatasetChanges:
        return self._ingestion.changes

    # Lines come

    async def feed(self, span: LineSpan) -> None:
        """Take the next lines of the body, when there is room for them."""
        self._queue.append(span)
        await self._send_full(is_last=span.refusal is not None)

    async def _send_full(self, *, is_last: bool) -> None:
        """Send blocks while enough lines wait; with `is_last` all of them."""
        max_lines = EMBEDDED_LINES if self._embeds else BLOCK_BYTES
        queue = self._queue
        while queue.num_lines and (is_last or queue.num_bytes >= BLOCK_BYTES or queue.num_lines >= max_lines):
            await self._check()
            lines = queue.take(max_lines)
            if lines.refusal is not None:
                self._note_long_line(lines)
            else:
                await self._send(lines)

    @property
    def _embeds(self) -> bool:
        return bool(self.order.models)

    def _note_long_line(self, lines: Lines) -> None:
        """A line that was thrown away because it is too long."""
        message = RECORD_CODES[str(lines.refusal)].text
        if self.order.options.skips:
            self._num_skipped += 1
            self._note_errors([{"line": lines.first_line, "message": message}])
        else:
            self._faults.append(DetailedError(BAD_ROW, message, {"line": lines.first_line}))

    async def _send(self, lines: Lines) -> None:
        """Give a block to the replicas. The first one decides the types, so all others wait for it."""
        number, self._num_blocks = self._num_blocks, self._num_blocks + 1
        self.num_bytes += lines.num_bytes
        num_bytes = self._ingestion.coming_bytes(self.order.org)
        await self._changes.check_room(self.order.org, self.order.name, num_bytes, is_counted=self.order.is_counted)
        await self._share.blocks.acquire()
        task = asyncio.create_task(self._parse(number, lines), name=f"block {number} of {self.order.title}")
        self._parsing.add(task)
        task.add_done_callback(self._parsed)
        if number == 0:
            await asyncio.wait((task,))
            await self._check()

    # Blocks are worked on

    async def _parse(self, number: int, lines: Lines) -> bool:
        """Let a replica parse a block, and begin to embed its texts. Returns whether there are some."""
        try:
            answer = await ask(self._ingestion.jobs, INGEST, self._arguments(number, lines.first_line), lines.buffers)
            self._note_parsed(answer)
            if not answer.header.get("texts"):
                return False
        except Exception as error:  # whatever it is, it refuses the upload, and `_check` raises it
            self._faults.append(error)
            return False
        task = asyncio.create_task(self._embed_block(number, answer), name=f"embed block {number}")
        self._embedding.add(task)
        task.add_done_callback(self._embedded)
        return True

    def _parsed(self, task: asyncio.Task[bool]) -> None:
        """Give the place of a block back, unless its texts are being embedded.

        A callback does this, because a task that is cancelled before its first step never runs, not even what it has in `finally`.
        """
        self._parsing.discard(task)
        if task.cancelled() or not task.result():
            self._share.blocks.release()

    def _embedded(self, task: asyncio.Task[None]) -> None:
        self._embedding.discard(task)
        self._share.blocks.release()

    def _arguments(self, number: int, first_line: int) -> dict[str, Any]:
        """The first block is told the columns of the dataset, and its answer tells them to the others."""
        dataset = None if number else self._changes.datasets.get(self.order.org, self.order.name)
        return {
            "staging": str(self._staging),
            "number": number,
            "first_line": first_line,
            "schema": self._schema,
            "existing": columns_for_task(self._existing(dataset)),
            "options": self.order.options.for_task(),
        }

    def _existing(self, dataset: Dataset | None) -> Iterable[Column]:
        """The columns that the rows join."""
        return dataset.head.columns if dataset is not None and self.order.what == "append" else ()

    def _note_parsed(self, answer: Answer) -> None:
        part = answer.header
        if self._schema is None:
            self._schema = part["schema"]
        self._num_skipped += part["skipped"]
        self._note_errors(part["errors"])
        self.num_bytes += sum(text["lines"] * text["dim"] * FLOAT_BYTES for text in part.get("texts", ()))

    def _note_errors(self, errors: Iterable[dict[str, Any]]) -> None:
        """Keep the first ones by their lines; blocks may be answered in any order."""
        self._errors = sorted([*self._errors, *errors], key=lambda error: int(error["line"]))[:MAX_ERRORS]

    async def _embed_block(self, number: int, answer: Answer) -> None:
        """Compute the vectors of the texts of one block, and let a replica write them."""
        try:
            start = 0
            for text in answer.header["texts"]:
                end = start + text["size"]
                async with self._share.lists:
                    await self._embed_texts(number, text, answer.payload[start:end])
                start = end
        except Exception as error:  # as in `_parse`
            self._faults.append(error)

    async def _embed_texts(self, number: int, text: dict[str, Any], lines: memoryview) -> None:
        model = self.order.models.get(text["model"])
        if model is None or model.dim != text["dim"]:
            raise EngineError(INVALID_PARAMETER, f"The model {text['model']} does not give the vectors that the dataset has.")
        vectors = await self._ingestion.embedder.embed_lines(model, lines, text["lines"])
        arguments = {key: text[key] for key in ("column", "dim", "lines")}
        arguments |= {"staging": str(self._staging), "number": number, "form": "f32"}
        await ask(self._ingestion.jobs, VECTORS, arguments, vectors)

    # The end

    async def finish(self, confirm: Callable[[], Awaitable[None]]) -> Uploaded:
        """The body has ended: make its rows a version of the dataset.

        confirm  called before anything changes; its EngineError ends the upload
        """
        await self._send_full(is_last=True)
        if not self._num_blocks:
            await self._send(Lines(first_line=1, num_lines=0))  # so that the dataset has the columns that the options name
        while tasks := self._parsing | self._embedding:
            await self._check()
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._check()
        order = self.order
        async with self._changes.turn(order.org, order.name) as dataset:
            order.conditions.check(order.title, dataset)
            return await self._commit(dataset, confirm)

    async def _commit(self, dataset: Dataset | None, confirm: Callable[[], Awaitable[None]]) -> Uploaded:
        order = self.order
        columns, new = await self._sealed(dataset)
        kept = dataset.head.segments if dataset is not None and order.what == "append" else ()
        num_bytes = sum(segment.num_bytes for segment in new)
        await self._changes.check_room(order.org, order.name, num_bytes, is_counted=order.is_counted)
        await confirm()
        staged = [staged_folder(self._staging, segment) for segment in new]
        rows = NewRows("create" if dataset is None else order.what, order.user, columns, [*kept, *new], staged)
        changed = await self._changes.commit(self._folder, order.org, order.name, rows)
        num_rows = sum(segment.num_rows for segment in new)
        return Uploaded(order.title, changed, dataset is None, num_rows, self._num_skipped, self._errors)

    async def _sealed(self, dataset: Dataset | None) -> tuple[list[Column], list[StoredSegment]]:
        """All columns of the dataset with the new rows, and the segments of these rows."""
        arguments = {
            "staging": str(self._staging),
            "blocks": list(range(self._num_blocks)),
            "schema": self._schema,
            "existing": columns_for_task(self._existing(dataset)),
        }
        part = (await ask(self._ingestion.jobs, SEAL, arguments)).header
        split = self.order.options.split
        new = [StoredSegment.from_json(one, config=DEFAULT_CONFIG, split=split) for one in part["segments"]]
        return list(map(Column.from_json, part["columns"])), new

    async def _check(self) -> None:
        """Raise what refuses the upload, if anything does: the first bad line, else the first fault.

        Blocks before the one that was refused may still have an earlier bad line, so they come to their end first.
        """
        if not self._faults:
            return
        await asyncio.gather(*self._parsing, return_exceptions=True)
        bad = [fault for fault in self._faults if isinstance(fault, DetailedError) and "line" in fault.details]
        raise min(bad, key=lambda fault: int(fault.details["line"])) if bad else self._faults[0]

    async def close(self) -> None:
        """End what is still at work. A block that a replica has already is finished there, and its answer dropped."""
        tasks = self._parsing | self._embedding
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
