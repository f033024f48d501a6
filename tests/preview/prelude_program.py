"""A server or a worker whose jobs of preview do something else first, or wait at their end, as files of a test say:
`python -m tests.preview.prelude_program WORD`, as `python -m server`. What they do after that is their own work.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from engine.jobs import JobKind, Work
from engine.preview import pages
from engine.replicas.blocks import Answer
from engine.store import JobRow, Store
from server import cli, jobs
from server.config import Settings
from server.preview import preview_kinds
from tests.engine.replicas.families import task

FOLDER = Path(os.environ["TEST_PRELUDES"])


def kinds(store: Store, settings: Settings) -> Mapping[str, JobKind]:
    """The kinds of preview. `KIND.json` names a task of the family `testing` that comes first, if the file is there."""
    return {name: replace(kind, work=_with_prelude(kind)) for name, kind in preview_kinds(store, settings).items()}


def _with_prelude(kind: JobKind) -> Callable[[JobRow], Awaitable[Work | None]]:
    async def work(job: JobRow) -> Work | None:
        try:
            asked = json.loads((FOLDER / f"{kind.name}.json").read_text())
        except FileNotFoundError:
            return await own(job)
        limits = {name: asked.pop(name) for name in ("time_limit_s", "memory_bytes") if name in asked}

        async def then(answer: Answer) -> Work | None:
            return await own(job)

        return Work(task(asked.pop("task"), **limits), asked, then=then)

    async def own(job: JobRow) -> Work | None:
        found = await kind.work(job)
        return found and _held(kind.name, found)

    return work


def _held(name: str, work: Work) -> Work:
    """The same, but while `KIND.end` is there the process does not hear the last answer."""

    async def then(answer: Answer) -> Work | None:
        following = await work.then(answer) if work.then else None
        if following is not None:
            return _held(name, following)
        if (FOLDER / f"{name}.end").exists():
            with (FOLDER / f"{name}.held").open("a") as mark:
                mark.write("held\n")
        while True:
            if not (FOLDER / f"{name}.end").exists():
                return None
            await asyncio.sleep(0.01)  # a file that is removed tells nobody

    return replace(work, then=then)


if __name__ == "__main__":
    jobs.KINDS = (kinds,)
    pages.PREDICT_LIMIT_S = float(os.environ.get("TEST_PREDICT_LIMIT_S", pages.PREDICT_LIMIT_S))
    sys.exit(cli.main(sys.argv[1:]))
