"""What the handlers of preview ask: the finished answers of datasets and splits, from memory or from the database.

Knows no HTTP: which bytes of an answer are sent, and under which headers, is decided above.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import ujson

from engine.engine import Engine
from engine.preview.answers import Answers, Key, Ready, etag_of
from engine.preview.faults import SPLIT_NOT_READY, NotReady, PreviewFault
from engine.preview.holds import Holds
from engine.preview.states import States, later_failed, num_bytes_of, num_examples_of
from engine.preview.waiting import Waiting
from engine.store import CachedSplit


class Preview:
    """The previews of one server.

    downloads            answers with data by dataset, since they were last stored (watching.py)
    num_foreign_commits  changes that workers were seen to make
    """

    def __init__(self, engine: Engine, states: States) -> None:
        self.states = states
        self.catalogue = states.catalogue
        self.access = states.access
        self.waiting = Waiting(engine)
        self.holds = Holds()
        self.downloads: Counter[str] = Counter()
        self.num_foreign_commits = 0
        self._store = states.store
        self._answers = Answers()

    def changed(self, name: str | None) -> None:
        """Something of a dataset was written; None: by a worker, which does not say of which."""
        self.num_foreign_commits += name is None
        self._answers.changed(name)
        self.waiting.changed(name)

    async def splits(self, name: str) -> Ready:
        """The answer of `/splits`."""
        return await self._kept((name, "splits", "", ""), lambda: self._splits(name))

    async def _splits(self, name: str) -> Ready:
        listing = await self.states.listing(name)
        body = _encoded({"splits": [_listed(one) for one in listing.splits]})
        return Ready(body, b"", etag_of(body), listing.dataset.revision, bool(listing.fault), fault=listing.fault)

    async def is_valid(self, name: str) -> bool:
        """Whether `/splits` and, of at least one split, `/rows` have data."""
        key = (name, "is-valid", "", "")
        kept = self._answers.get(key)
        if kept is None:
            moment = self._answers.moment(name)
            dataset = await self._store.find_cached_dataset(name)
            if dataset is None or dataset.is_removed or not dataset.is_listed:
                return False
            is_valid = any(one.about is not None for one in await self._store.list_cached_splits(name))
            kept = Ready(b"1" if is_valid else b"", b"", "", dataset.revision)
            self._answers.put(key, kept, moment)
        return bool(kept.plain)

    async def rows(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/rows`."""
        return await self._kept((name, "rows", config, split), lambda: self._answer(name, config, split, "rows"))

    async def first_rows(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/first-rows`, without the addresses that `about` says the places of."""
        return await self._kept((name, "first-rows", config, split), lambda: self._answer(name, config, split, "first-rows"))

    async def _answer(self, name: str, config: str, split: str, endpoint: str) -> Ready:
        _, found = await self.states.split(name, config, split)
        stored = await self._store.find_answer(found.id, endpoint)
        if stored is None:  # it was taken out between the two questions
            raise NotReady(SPLIT_NOT_READY, 0)
        plain, packed = stored
        about: dict[str, Any] = ujson.loads(found.about or "{}")
        return Ready(
            plain,
            packed,
            etag_of(plain),
            found.revision,
            found.status != "valid",
            fault=PreviewFault.read(found.error) if found.error else None,
            truncated=", ".join(about["truncated"]) if endpoint == "rows" else "",
            run=found.run,
            about=about if endpoint == "first-rows" else {},
        )

    async def statistics(self, name: str, config: str, split: str) -> Ready:
        """The answer of `/statistics`. EngineError as `split`; StoredError where nothing could be prepared or counted."""
        return await self._kept((name, "statistics", config, split), lambda: self._statistics(name, config, split))

    async def _statistics(self, name: str, config: str, split: str) -> Ready:
        dataset, found = await self.states.split(name, config, split)
        stored = await self._store.find_answer(found.id, "statistics") if found.statistics == "ok" else None
        if stored is not None:
            return Ready(*stored, etag_of(stored[0]), found.revision, found.status != "valid")
        for status, error in ((found.prepare, found.prepare_error), (found.statistics, found.statistics_error)):
            if status == "failed":
                raise later_failed(error, dataset)
        raise NotReady(SPLIT_NOT_READY, 0)

    async def _kept(self, key: Key, load: Callable[[], Awaitable[Ready]]) -> Ready:
        """An answer from memory, else from the database."""
        ready = self._answers.get(key)
        if ready is None:
            moment = self._answers.moment(key[0])
            ready = await load()
            self._answers.put(key, ready, moment)
        return ready


def _listed(split: CachedSplit) -> dict[str, Any]:
    names = {"dataset": split.dataset, "config": split.config, "split": split.split}
    return {**names, "num_bytes": num_bytes_of(split), "num_examples": num_examples_of(split)}


def _encoded(value: object) -> bytes:
    return ujson.dumps(value, escape_forward_slashes=False, ensure_ascii=False).encode(errors="replace")
