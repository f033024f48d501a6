"""What replicas do for preview: the tasks of the family `preview`, the folders they write into, and what they are held to.

engine/tasks/preview/__init__.py says what each task is asked with and gives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.jobs import MEMORY_BYTES, TIME_LIMIT_S, JobClass
from engine.replicas.blocks import Task
from engine.store import FoundDataset

# The kinds of jobs, which the tables of the queue have by these names.
DATASET, SPLIT, WARM, PREPARE, STATISTICS = "dataset", "split", "warm", "prepare", "statistics"
KINDS = (DATASET, SPLIT, WARM, PREPARE, STATISTICS)
# The config of a job of the kind `warm` that asks a hub for its list, too.
HUB = "hub"
# Those that belong to one split.
SPLIT_KINDS = (SPLIT, PREPARE, STATISTICS)
# Before `make warm` and the watch, whose jobs have 1.
REQUEST_PRIORITY, WARM_PRIORITY = 0, 1
# More waiting jobs than this are refused.
MAX_WAITING = 20_000
# Rows of one page of `/v2/rows`, and how long they may take.
PAGE_LIMIT_S = 5.0
# A folder of a dataset without an org; no org begins so.
NO_ORG = "_"


@dataclass(frozen=True, slots=True)
class PreviewLimits:
    """What previews are held to. Settings of server/config.py, by the same names."""

    rows_max_bytes: int
    rows_max_number: int
    rows_min_number: int
    preview_max_record_bytes: int
    preview_max_decompressed_bytes: int
    preview_max_prepare_bytes: int

    def for_task(self) -> dict[str, int]:
        return {
            "rows_max_bytes": self.rows_max_bytes,
            "rows_max_number": self.rows_max_number,
            "rows_min_number": self.rows_min_number,
            "record_bytes": self.preview_max_record_bytes,
            "decompressed_bytes": self.preview_max_decompressed_bytes,
            "prepare_bytes": self.preview_max_prepare_bytes,
        }


@dataclass(frozen=True, slots=True)
class PreviewFolders:
    """Where datasets lie, and where what is made of them is kept; all absolute.

    roots     of the catalogue; the first has the datasets that the server keeps itself
    assets    <hash of dataset>/<hash of config and split>/<run>/
    prepared  <org or _>/<name>/segments/<id>/, and .staging/<run>/
    hub       <revision>/<name>/, or <revision>/<org>/<name>/: what was fetched from a hub
    """

    roots: tuple[Path, ...]
    assets: Path
    prepared: Path
    hub: Path

    def run(self, dataset: str, config: str, split: str, run: str) -> Path:
        """The pictures and sound of one run."""
        return self.assets / short_hash(dataset) / short_hash(f"{config}\0{split}") / run

    def segments(self, dataset: str) -> Path:
        """What was prepared of a dataset."""
        org, slash, name = dataset.rpartition("/")
        return self.prepared / (org if slash else NO_ORG) / name / "segments"

    def staging(self, run: str) -> Path:
        """What a job is preparing."""
        return self.prepared / ".staging" / run


def short_hash(text: str) -> str:
    """16 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _task(name: str, job_class: JobClass) -> Task:
    """The queue counts deaths, so one is enough here."""
    limit_s = TIME_LIMIT_S[job_class]
    return Task(name, family="preview", pool="jobs", time_limit_s=limit_s, max_deaths=1, memory_bytes=MEMORY_BYTES)


SCAN_TASK, SPLITS_TASK, ROWS_TASK = _task("scan", "quick"), _task("splits", "quick"), _task("rows", "quick")
# The same without a job, which nobody else would do again.
LOOK_TASK = replace(SCAN_TASK, max_deaths=3)
FILES_TASK = _task("files", "quick")
PREPARE_TASK, STATISTICS_TASK = _task("prepare", "slow"), _task("statistics", "slow")
PAGE_TASK = Task("page", family="preview", pool="query", time_limit_s=PAGE_LIMIT_S, max_deaths=1)


@dataclass(frozen=True, slots=True)
class ScannedDataset:
    """A dataset as a scan has found it.

    root          absolute path of the root that holds it
    card          what README.md says; None without one
    has_versions  uploads have written it (engine/datasets/)
    """

    name: str
    root: str
    revision: str
    is_private: bool
    card: Mapping[str, Any] | None
    has_versions: bool = False

    @property
    def files(self) -> FoundDataset:
        return FoundDataset(self.root, self.revision, self.is_private)

    @classmethod
    def of_scan(cls, one: Mapping[str, Any]) -> "ScannedDataset":
        return cls(one["name"], one["root"], one["revision"], bool(one["private"]), one.get("card"), bool(one.get("versions")))
