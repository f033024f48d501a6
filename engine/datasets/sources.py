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
from engine.datasets.versions import Readable


class Lender(Protocol):
    """Has datasets that queries may read."""

    def lent(self, source: SourceName, caller: Caller, wait_s: float) -> AbstractAsyncContextManager[Readable | None]:
        """The part of a dataset that a source names; None when there is no such dataset, or when the caller may not read it.

        The files stay until the context ends. A part that is being made is waited for, for these seconds at most.

        raises  EngineError: `dataset_not_found` for a part that is not there, `version_not_found`, `dataset_not_ready`, and what
                else the lender has against it
        """
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
