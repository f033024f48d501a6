"""The family `query`: the text of a query and the stored rows of datasets become an answer.

DuckDB and sqlglot are imported when a replica asks for the tasks: the family `ingestion` uses files of this package without them.
"""

import resource
from functools import partial

from engine.tasks.families import Families, TaskFunction
from engine.tasks.stopping import Stopping

# A query may open this many files: a segment has few, and they are closed once they are mapped.
MAX_FILES = 256


def tasks(families: Families) -> dict[str, TaskFunction]:
    """plan: what does a body need? query: its rows. matching: the rows that a condition holds for."""
    from engine.tasks.query.database import Database
    from engine.tasks.query.helping import Helper
    from engine.tasks.query.matching import Matching
    from engine.tasks.query.plan import plan
    from engine.tasks.query.query import Answering
    from engine.tasks.query.tql import Trees

    _limit_process()
    stopping, database, trees = families.the(Stopping), families.the(Database), families.the(Trees)
    return {
        "plan": partial(plan, trees=trees),
        "query": Answering(stopping, database, trees, families.the(Helper)).answer,
        "matching": Matching(stopping, database).answer,
    }


def _limit_process() -> None:
    """A text that harms this process must not harm the machine: no core files, and few open files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard), hard))
