"""The requests that a server which stops still has to answer: those that began before it began to stop.

Knows nothing of what a request asks for.
"""

import asyncio

from aiohttp import web


class OpenRequests:
    """Counts requests in work. While the server stops, new ones are refused at once and not counted: nobody waits for them."""

    def __init__(self) -> None:
        self._num_open = 0
        self._is_stopping = False
        self._all_answered = asyncio.Event()

    def began(self) -> bool:
        """A request has come; returns whether it counts, for `ended`."""
        self._num_open += not self._is_stopping
        return not self._is_stopping

    def ended(self, does_count: bool) -> None:
        self._num_open -= does_count
        if self._is_stopping and not self._num_open:
            self._all_answered.set()

    async def all_answered(self) -> None:
        """The server stops: wait until every request that began before this has been answered."""
        self._is_stopping = True
        if self._num_open:
            await self._all_answered.wait()


OPEN_REQUESTS = web.AppKey("open_requests", OpenRequests)
