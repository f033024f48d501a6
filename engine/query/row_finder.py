"""The row finder: the rows of a dataset for which a condition holds, by one block of the pool `query`.

Deletions are handed its function. Knows no dataset and nothing of what a condition says.
"""

import asyncio
from typing import Any

from engine.accounts import Caller
from engine.errors import TaskFailed
from engine.query.codes import failed, late, refused
from engine.query.queries import DEFAULT_TIMEOUT_S, SPARE_S, Queries
from engine.replicas.blocks import Block, Call, Lane, Task
from engine.replicas.lines import Lines

# A deletion changes nothing before it commits, so its condition may be tried once more.
DEATHS = 2


class RowFinder:
    """Finds the rows for deletions. A deletion takes the place of a query."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._timeout_s = min(DEFAULT_TIMEOUT_S, queries.limits.query_timeout_s)
        limit_s = queries.limits.query_timeout_s + SPARE_S
        self._task = Task("matching", family="query", pool="query", time_limit_s=limit_s, max_deaths=DEATHS)

    async def find(self, body: bytes, grant: dict[str, Any], caller: Caller) -> tuple[int, memoryview]:
        """The number of rows, and their numbers as int64.

        body    {"where", "params"} as it was sent
        grant   of the dataset (Readable.grant)
        raises  EngineError: what is wrong with the condition, `too_many_queries`, `timeout`, `out_of_memory`
        """
        queries = self._queries
        call = Call()
        arguments = {"grant": grant, "text_bytes": queries.limits.query_text_limit_bytes}
        block = Block(self._task, Lane.INTERACTIVE, call, arguments, Lines.of_buffers([body]), user=caller.name)
        with queries.places.of(caller), queries.places.taken(caller):
            queries.pool.submit(block)
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await call.future
            except TimeoutError:
                raise late(self._timeout_s) from None
            except TaskFailed as error:
                raise failed(error, self._timeout_s) from None
            finally:
                call.future.cancel()
                queries.pool.stop_work(block)
        if "refused" in answer.header:
            raise refused(answer.header["refused"])
        return answer.header["rows"], answer.payload
