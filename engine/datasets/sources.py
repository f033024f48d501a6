"""Sources: what a query names is found among all datasets, and its files stay while the query reads them.

Several parts of the engine have datasets; each of them is a lender. Knows no query.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from engine.accounts import Caller
from engine.datasets.catalogue import dataset_not_found
from engine.datasets.names import SourceName, parse_source
from engine.datasets.versions import Listed, Readable


class Lender(Protocol):
    """Has datasets that queries may read."""

    def lent(self, source: SourceName, caller: Caller, wait_s: float) -> AbstractAsyncContextManager[Readable | None]:
        """The part of a dataset that a source names; None when there is no such dataset, or when the caller may not read it.

        The files stay until the context ends. A part that is being made is waited for, for these seconds at most.

        raises  EngineError: `dataset_not_found` for a part that is not there, `version_not_found`, `dataset_not_ready`, and what
                else the lender has against it
        """
        ...

    async def listed(self, caller: Caller) -> list[Listed]:
        """The datasets that a caller may read, in any order."""
        ...


class Sources:
    """All that queries may read.

    lenders  in the order in which they are asked
    """

    def __init__(self, lenders: Sequence[Lender]) -> None:
        self._lenders = lenders

    @contextlib.asynccontextmanager
    async def reading(self, text: str, caller: Caller, wait_s: float) -> AsyncIterator[Readable]:
        """What a source means, as `Lender.lent` gives it. EngineError: those of a lender, `bad_name`, `dataset_not_found`."""
        for source in parse_source(text):
            for lender in self._lenders:
                async with lender.lent(source, caller, wait_s) as readable:
                    if readable is not None:
                        yield readable
                        return
        raise dataset_not_found(text)

    async def listed(self, caller: Caller, org: str | None = None) -> list[Listed]:
        """What a caller may read, perhaps of one org only, by name. Where two lenders have a name, queries read the first one's."""
        found: dict[str, Listed] = {}
        for lender in self._lenders:
            for one in await lender.listed(caller):
                found.setdefault(one.title, one)
        titles = sorted(found, key=lambda title: title.split("/"))
        return [found[title] for title in titles if org in (None, title.rpartition("/")[0])]

    async def described(self, source: SourceName, caller: Caller) -> Readable:
        """What a source means that somebody only wants to know about. Nothing is waited for. EngineError as `Lender.lent`."""
        for lender in self._lenders:
            async with lender.lent(source, caller, 0) as readable:
                if readable is not None:
                    return readable
        raise dataset_not_found(source.title)
