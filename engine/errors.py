"""Errors: the kinds of refusals, the codes that several parts share, and the exceptions that carry them.

There are three kinds of errors, told in three ways. An error of one record becomes an error line in its place (RECORD_CODES).
A request that is refused before its first byte is an EngineError, and the edge turns the kind of its code into a status. A stream
that fails after its first byte ends with a last line and a cut (engine/streaming/failures.py). A code that only one part of the
engine raises is defined in that part. Knows no protocol.
"""

import enum
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

# Why an output has no form as one tensor; a replica tells it of one run, the server of several.
SEVERAL_SHAPES = "the model gives it in other shapes for some rows than for others"
# Frames of a traceback that are kept: the last ones, where the error is.
MAX_FRAMES = 20


class Kind(enum.Enum):
    """What sort of reason a code is. The edge maps kinds to the statuses of its protocol."""

    UNIDENTIFIED = "we do not know who asks"
    FORBIDDEN = "we know who asks, and they may not do this"
    NOT_FOUND = "what was asked for does not exist, or they may not see it"
    CONFLICT = "it does not go together with what there is"
    MALFORMED = "what was sent is not written as it must be"
    INVALID = "what was sent can be read, but a value in it cannot be used"
    TOO_LARGE = "what was sent is larger than we take"
    OVERLOADED = "we have too much to do, or they ask for too much at once"
    UNAVAILABLE = "we cannot do it now"
    TOO_SLOW = "they did not send or take in time"
    EXPIRED = "we could not do it in the time that they gave us"
    FAILED = "we tried and failed"
    FULL = "there is no room left to keep it"


class Code(str):
    """One reason for an error: the word that programs compare, with its kind and a sentence for people.

    It is a str, so that it can be written into an answer or used as a label as it is.
    """

    __slots__ = ("kind", "text")

    kind: Kind
    text: str

    def __new__(cls, word: str, kind: Kind, text: str) -> "Code":
        code = super().__new__(cls, word)
        code.kind = kind
        code.text = text
        return code

    def __getnewargs__(self) -> tuple[str, Kind, str]:  # type: ignore[override]
        return str(self), self.kind, self.text


def by_word(*codes: Code) -> dict[str, Code]:
    """Codes by their words, for what comes from a replica as a plain word."""
    return {str(code): code for code in codes}


# Of one record. Replicas name them by their words.
RECORD_CODES = by_word(
    Code("invalid_json", Kind.MALFORMED, "the line is not JSON"),
    Code("not_an_object", Kind.MALFORMED, "the line is JSON, but not an object"),
    Code(
        "line_too_long",
        Kind.INVALID,
        "the line is longer than SLUICE_LINE_LIMIT_BYTES (send a file with --data-binary, one object per line)",
    ),
    Code(
        "too_many_records",
        Kind.INVALID,
        "more than 16,384 records share the line (send a file with --data-binary, one object per line)",
    ),
    Code("array_not_closed", Kind.MALFORMED, "the body is a JSON array, and it ends before the array does"),
    Code("missing_field", Kind.INVALID, "a field the model needs is absent or null"),
    Code("wrong_type", Kind.INVALID, "a field has a type the model does not take"),
    Code("out_of_range", Kind.INVALID, "a number does not fit the model's type"),
    Code("wrong_length", Kind.INVALID, "a list has the wrong number of values"),
    Code("invalid_yhat_id", Kind.INVALID, "yhat_id is not a string or a number, or is longer than 1,024 characters"),
    Code("model_failed", Kind.FAILED, "the model itself failed on this record"),
    Code("timeout", Kind.UNAVAILABLE, "the model gave no answer for this record within SLUICE_BLOCK_TIMEOUT_S"),
)

# Of a request, before its first byte.
NO_CREDENTIALS = Code("no_credentials", Kind.UNIDENTIFIED, "no credentials were sent")
UNAUTHORIZED = Code("unauthorized", Kind.UNIDENTIFIED, "the user or the key is wrong")
TOKEN_EXPIRED = Code("token_expired", Kind.UNIDENTIFIED, "the token has expired")
TOKEN_REVOKED = Code("token_revoked", Kind.UNIDENTIFIED, "the token was revoked")
FULL_KEY_NEEDED = Code("full_key_needed", Kind.FORBIDDEN, "a read-only key cannot do this, and a token makes no key and no user")
FORBIDDEN = Code("forbidden", Kind.FORBIDDEN, "this caller may not do this")
INVALID_BODY = Code("invalid_body", Kind.MALFORMED, "the body could not be decoded")
BODY_TOO_LARGE = Code(
    "body_too_large",
    Kind.TOO_LARGE,
    "the body is larger than SLUICE_BODY_LIMIT_BYTES, SLUICE_MODEL_LIMIT_BYTES when publishing, SLUICE_QUERY_BODY_LIMIT_BYTES for "
    "a query (and its text than SLUICE_QUERY_TEXT_LIMIT_BYTES), or SLUICE_DECODED_LIMIT_BYTES for compressed rows",
)
INVALID_REQUEST = Code("invalid_request", Kind.INVALID, "a field of the request is missing or wrong")
INVALID_PARAMETER = Code("invalid_parameter", Kind.MALFORMED, "a parameter is missing or wrong")
UNKNOWN_FIELD = Code("unknown_field", Kind.MALFORMED, "the body has a field that such a body does not have")
NAME_TAKEN = Code("name_taken", Kind.CONFLICT, "the name is reserved or in use")
MODEL_NOT_FOUND = Code("model_not_found", Kind.NOT_FOUND, "there is no such model, or the caller may not see it")
TOO_MANY_REQUESTS = Code(
    "too_many_requests",
    Kind.OVERLOADED,
    "SLUICE_MAX_QUEUED predictions are waiting, or the caller has as many requests, uploads or bytes here as one caller may have",
)
SHUTTING_DOWN = Code("shutting_down", Kind.UNAVAILABLE, "the server is shutting down")
NO_INSTANCES = Code("no_instances", Kind.UNAVAILABLE, "no replica is alive, or the model's files do not load")
MODEL_OFFLINE = Code(
    "model_offline",
    Kind.UNAVAILABLE,
    "the version has cost the server SLUICE_MODEL_FAULTS processes within 15 minutes, by crashes, time-outs or memory",
)
MODEL_BUILDING = Code("model_building", Kind.UNAVAILABLE, "the model is still loading after SLUICE_LOAD_TIMEOUT_S")
TIMED_OUT = Code("timed_out", Kind.UNAVAILABLE, "no answer, or no end of the body, came within the time limit of the request")
TOO_MANY_JOBS = Code("too_many_jobs", Kind.OVERLOADED, "too many jobs wait, of preview or of the team; see Retry-After")
BUSY = Code("busy", Kind.UNAVAILABLE, "another program keeps the database locked")
DISK_FULL = Code("disk_full", Kind.FULL, "the disk of the server is full, or has only SLUICE_DISK_RESERVE_BYTES left")
INTERNAL = Code("internal", Kind.FAILED, "a fault of the server")

# Of a job that has no answer.
JOB_TIMEOUT = Code("job_timeout", Kind.FAILED, "the job took longer than it may")
JOB_MEMORY = Code("job_memory", Kind.FAILED, "the job needed more memory than it may have")
JOB_CRASHED = Code("job_crashed", Kind.FAILED, "the job ended its process three times")


class EngineError(Exception):
    """Something that a client should hear: a code, and one sentence for the person who can act on it.

    retry_after_s  seconds after which the same request may succeed, or None
    """

    def __init__(self, code: Code, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class DetailedError(EngineError):
    """An error that says more than a message, for a program to read.

    details  such as `position` ({"offset", "line", "column"} in a text), `hint`, or `line` and `column` of a bad row
    """

    def __init__(self, code: Code, message: str, details: dict[str, Any], *, retry_after_s: int | None = None) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)
        self.details = details


class ListedError(EngineError):
    """An error with a list of what is wrong, as one file or one body may have many faults.

    details  one object for each fault, with `Code` and `Message` and what tells its place; perhaps only the first faults
    total    how many faults there are
    """

    def __init__(
        self,
        code: Code,
        message: str,
        details: Sequence[Mapping[str, Any]],
        *,
        total: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)
        self.details = details
        self.total = len(details) if total is None else total


# Why a block was given up: its replica died, its time ran out, it needed more memory than it may have, or its task has failed.
Reason = Literal["died", "time", "memory", "failed"]


class TaskFailed(EngineError):
    """A block was given up: it cost as many replicas as its task allows, ran past a limit, or its task failed.

    class_name, text  of what the task has raised, if it has raised something. The text may quote a record
    traceback         lines, the last frames of that
    """

    def __init__(self, reason: Reason, class_name: str = "", text: str = "", traceback: tuple[str, ...] = ()) -> None:
        super().__init__(INTERNAL, "the server failed on this request")
        self.reason = reason
        self.class_name = class_name
        self.text = text
        self.traceback = traceback

    @property
    def is_timeout(self) -> bool:
        """It ran past its time limit."""
        return self.reason == "time"

    @property
    def is_lost(self) -> bool:
        """The replica that worked on it died, and not because of its time limit."""
        return self.reason == "died"


def short_traceback(error: BaseException) -> list[str]:
    """The last frames, and no message; each file is named as Python finds it, so that no folder of this machine is told."""
    folders = sorted((f"{Path(folder).resolve()}/" for folder in sys.path if folder), key=len, reverse=True)
    lines = traceback.format_tb(error.__traceback__)[-MAX_FRAMES:]
    for folder in folders:
        lines = [line.replace(f'File "{folder}', 'File "', 1) for line in lines]
    return lines


# Refusals that several parts give in the same words.

HOW_TO_IDENTIFY = "send user and key as HTTP Basic (curl -u USER:KEY), or the key alone as `Authorization: Bearer KEY`"
WHERE_THE_ADMINS_KEY_IS = "The key of the user admin is in the file admin.key of the server's data directory."


def model_not_found() -> EngineError:
    return EngineError(MODEL_NOT_FOUND, "model not found")


def no_credentials() -> EngineError:
    text = f"No basic authentication provided: {HOW_TO_IDENTIFY}. {WHERE_THE_ADMINS_KEY_IS}"
    return EngineError(NO_CREDENTIALS, text)


def unauthorized() -> EngineError:
    """The error for a wrong user or key. It does not say which of the two is wrong."""
    return EngineError(UNAUTHORIZED, f"Unauthorized: the user or the key is wrong. {WHERE_THE_ADMINS_KEY_IS}")


def no_instances(*, retry_after_s: int | None = 1) -> EngineError:
    return EngineError(NO_INSTANCES, "no instances of model found", retry_after_s=retry_after_s)


def shutting_down() -> EngineError:
    return EngineError(SHUTTING_DOWN, "shutting down", retry_after_s=5)
