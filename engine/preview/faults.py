"""What can be wrong with a dataset or a split: the codes of preview, and a fault as it is stored.

A fault is stored whole. Who may see which part of it is decided when it is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ujson

from engine.errors import JOB_CRASHED, JOB_MEMORY, JOB_TIMEOUT, Code, EngineError, Kind
from engine.jobs import MAX_ATTEMPTS, MEMORY_BYTES, TIME_LIMIT_S, JobClass, JobFailure

MIB = 1024 * 1024

SPLIT_NOT_FOUND = Code("split_not_found", Kind.NOT_FOUND, "the dataset has no such config or split")
SPLIT_NOT_READY = Code("split_not_ready", Kind.NOT_FOUND, "the split is being processed; see Retry-After")
SPLITS_NAMES_ERROR = Code("splits_names_error", Kind.MALFORMED, "the splits of the dataset could not be listed")
INFO_ERROR = Code("info_error", Kind.MALFORMED, "README.md of the dataset, or a feature that it declares, cannot be read")
ROWS_ERROR = Code("rows_error", Kind.MALFORMED, "the rows of the split cannot be read")
DATASET_NOT_SUPPORTED = Code("dataset_not_supported", Kind.MALFORMED, "the dataset has no file that preview can show")
TOO_BIG_CONTENT = Code("too_big_content", Kind.MALFORMED, "the dataset has too many configs, splits or columns")
UNEXPECTED_ERROR = Code("unexpected_error", Kind.FAILED, "the job of the dataset or split failed for another reason")

# Codes as tasks name them.
CODES_OF_TASKS: Mapping[str, Code] = {
    "SplitsNamesError": SPLITS_NAMES_ERROR,
    "InfoError": INFO_ERROR,
    "RowsError": ROWS_ERROR,
    "DatasetNotSupported": DATASET_NOT_SUPPORTED,
    "TooBigContent": TOO_BIG_CONTENT,
    "SplitNotFound": SPLIT_NOT_FOUND,
}
STORED_CODES = {str(code): code for code in (*CODES_OF_TASKS.values(), JOB_TIMEOUT, JOB_MEMORY, JOB_CRASHED, UNEXPECTED_ERROR)}


@dataclass(frozen=True, slots=True)
class PreviewFault:
    """What went wrong with a dataset or a split.

    message      empty where the code alone says it
    cause_class  name of the exception behind it; empty if there is none
    traceback    lines that end in a newline
    """

    code: Code
    message: str = ""
    cause_class: str = ""
    cause_message: str = ""
    traceback: tuple[str, ...] = ()

    def stored(self) -> str:
        values = {"code": str(self.code), "message": self.message, "cause_class": self.cause_class}
        return ujson.dumps({**values, "cause_message": self.cause_message, "traceback": list(self.traceback)}, ensure_ascii=False)

    @classmethod
    def read(cls, stored: str) -> "PreviewFault":
        """What `stored` gave."""
        values: dict[str, Any] = ujson.loads(stored)
        code = STORED_CODES.get(values["code"], UNEXPECTED_ERROR)
        return cls(code, values["message"], values["cause_class"], values["cause_message"], tuple(values["traceback"]))

    @classmethod
    def of_task(cls, failure: Mapping[str, Any]) -> "PreviewFault":
        """What a task has answered instead of a result."""
        code = CODES_OF_TASKS.get(failure["code"], UNEXPECTED_ERROR)
        message, cause = failure.get("message") or "", failure.get("cause_message") or ""
        return cls(code, message, failure.get("cause_class") or "", cause, tuple(failure.get("cause_traceback") or ()))

    @classmethod
    def of_job(cls, failure: JobFailure, job_class: JobClass) -> "PreviewFault":
        """Why a job has no answer."""
        if failure.reason == "time":
            return cls(JOB_TIMEOUT, f"The job took longer than {TIME_LIMIT_S[job_class]:.0f} s.")
        if failure.reason == "memory":
            return cls(JOB_MEMORY, f"The job needed more than {MEMORY_BYTES // MIB} MiB.")
        if failure.reason == "died":
            return cls(JOB_CRASHED, f"The worker died {MAX_ATTEMPTS} times on this job.")
        return cls(UNEXPECTED_ERROR, "", failure.class_name, failure.text, failure.traceback)

    def __str__(self) -> str:
        """One line for the row of the job."""
        return ": ".join(filter(None, (str(self.code), self.cause_class, self.cause_message or self.message)))


class StoredError(EngineError):
    """What was asked for has a fault that is stored.

    root   absolute path of the dataset's folder, which nobody is told
    """

    def __init__(self, fault: PreviewFault, root: str = "") -> None:
        super().__init__(fault.code, fault.message)
        self.fault = fault
        self.root = root


class NotReady(EngineError):
    """What was asked for is being made.

    queue_position  jobs of the same kind that wait before it
    """

    def __init__(self, code: Code, queue_position: int) -> None:
        super().__init__(code, code.text, retry_after_s=5 if queue_position else 1)
        self.queue_position = queue_position
