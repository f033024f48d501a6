"""A server or a worker that has the kinds of jobs of tests: `python -m tests.server.jobs_program WORD`, as `python -m server`."""

import sys
from collections.abc import Mapping

from engine.jobs import JobKind
from engine.store import Store
from server import cli, jobs
from server.config import Settings
from tests.engine.jobs.kinds import PASS_GATE, kind, table


def kinds(store: Store, settings: Settings) -> Mapping[str, JobKind]:
    """One quick kind of each queue, and a slow one."""
    slow = kind("prepare", PASS_GATE, job_class="slow")
    return table(kind("dataset", PASS_GATE), kind("split", PASS_GATE), slow)


if __name__ == "__main__":
    jobs.KINDS = (kinds,)
    sys.exit(cli.main(sys.argv[1:]))
