"""A runner: takes one job after the other, and waits for an event while there is none.

Knows the classes of jobs and in which order it looks at them. Knows nothing of what a job is.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from engine.jobs.kinds import JobClass
from engine.store import JobRow, StoreError

log = logging.getLogger("sluice.jobs")


class Runner:
    """One place for a job.

    classes  of the jobs that it takes. One that takes several begins with the class that it did not take last, so that neither
             waits for ever behind the other
    take     starts the next job of a class, if there is one
    perform  does a job and ends it
    sleep_s  about how often it looks for jobs that other processes have added, of which nobody tells it
    """

    def __init__(
        self,
        classes: tuple[JobClass, ...],
        take: Callable[[JobClass], Awaitable[JobRow | None]],
        perform: Callable[[JobRow], Awaitable[None]],
        *,
        sleep_s: float,
    ) -> None:
        self._classes = classes
        self._take = take
        self._perform = perform
        self._sleep_s = sleep_s
        self._woken = asyncio.Event()
        self._is_stopping = False

    def wake(self) -> None:
        """There may be something to take."""
        self._woken.set()

    def stop(self) -> None:
        """Take nothing more."""
        self._is_stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Take jobs until `stop`, and end when the last one has ended."""
        while not self._is_stopping:
            self._woken.clear()
            try:
                if await self._take_one():
                    continue
            except StoreError as error:  # the job, if there was one, is found by its silence
                log.warning("no job taken or ended reason=%r", str(error))
            except Exception:  # a runner must not end quietly
                log.exception("runner failed")
            await self._rest()

    async def _take_one(self) -> bool:
        """Do one job; False when there is none."""
        for job_class in self._classes:
            job = await self._take(job_class)
            if job is not None:
                if len(self._classes) > 1:
                    self._classes = (*(one for one in self._classes if one != job_class), job_class)
                await self._perform(job)
                return True
        return False

    async def _rest(self) -> None:
        """Wait to be woken. The time differs, so that several processes do not all look at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._sleep_s * random.uniform(0.75, 1.25)):
                await self._woken.wait()
