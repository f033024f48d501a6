"""The errors of preview: one table says which status, exception, code and text each case has, and what of its cause is told."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aiohttp import web

from engine.datasets.catalogue import DATASET_NOT_FOUND, DATASET_NOT_READY
from engine.errors import JOB_CRASHED, JOB_MEMORY, JOB_TIMEOUT, Code, EngineError, Kind
from engine.preview.faults import (
    DATASET_NOT_SUPPORTED,
    INFO_ERROR,
    ROWS_ERROR,
    SPLIT_NOT_FOUND,
    SPLIT_NOT_READY,
    SPLITS_NAMES_ERROR,
    TOO_BIG_CONTENT,
    UNEXPECTED_ERROR,
    NotReady,
    PreviewFault,
    StoredError,
)
from handlers.http.errors import json_response, refusal_headers, status_of
from handlers.http.sharing import ERROR_CODE, NO_STORE, exception_of, shown_code, six_keys
from handlers.preview.keys import CALLER, IS_PRIVATE, MISSING_PARAMETER, OPTIONS

MAX_CAUSE_CHARACTERS = 1000
# Seconds between the answer and the next question may not be kept longer than this.
NEVER_KEPT = frozenset({401, 500, 504})


class ErrorRow(NamedTuple):
    """One row of the table. An empty text means that the error has its own."""

    status: int
    code: str
    text: str = ""


TABLE: Mapping[Code, ErrorRow] = {
    MISSING_PARAMETER: ErrorRow(400, "MissingRequiredParameter"),
    DATASET_NOT_FOUND: ErrorRow(
        404, "DatasetNotFound", "Not found. Maybe the cache is missing, or maybe the dataset does not exist."
    ),
    SPLIT_NOT_FOUND: ErrorRow(404, "SplitNotFound", "Not found. Maybe the cache is missing, or maybe the split does not exist."),
    DATASET_NOT_READY: ErrorRow(404, "DatasetNotReady", "The dataset is being processed. Retry later."),
    SPLIT_NOT_READY: ErrorRow(404, "SplitNotReady", "The split is being processed. Retry later."),
    SPLITS_NAMES_ERROR: ErrorRow(400, "SplitsNamesError", "Cannot get the split names for the dataset."),
    INFO_ERROR: ErrorRow(400, "InfoError", "Cannot get the metadata info for the config."),
    ROWS_ERROR: ErrorRow(400, "RowsError", "Cannot get the first rows for the split."),
    DATASET_NOT_SUPPORTED: ErrorRow(400, "DatasetNotSupported", "this dataset is not supported for now."),
    TOO_BIG_CONTENT: ErrorRow(400, "TooBigContent"),
    JOB_TIMEOUT: ErrorRow(500, "JobTimeout"),
    JOB_MEMORY: ErrorRow(500, "JobMemory"),
    JOB_CRASHED: ErrorRow(500, "JobCrashed"),
    UNEXPECTED_ERROR: ErrorRow(500, "UnexpectedError", "Unexpected error."),
}
# The rows to which SLUICE_PREVIEW_NOT_FOUND_STATUS applies.
MOVABLE = frozenset({DATASET_NOT_FOUND, SPLIT_NOT_FOUND, DATASET_NOT_READY, SPLIT_NOT_READY})


def refuse(request: web.Request, error: EngineError) -> web.Response:
    """The answer to a request that is refused: six keys, and headers that say how long it may be kept."""
    body = error_body(request, error)
    status = body["status_code"]
    headers = {
        ERROR_CODE: code_of(error.code),
        **refusal_headers(status, error.retry_after_s),
        **_cache_headers(request, error, body),
    }
    if isinstance(error, NotReady):
        headers["X-Queue-Position"] = str(error.queue_position)
    return json_response(body, status=status, headers=headers, sort_keys=False)


def code_of(code: Code) -> str:
    """What `X-Error-Code` says."""
    if code in TABLE:
        return TABLE[code].code
    return "UnexpectedError" if code.kind is Kind.FAILED else shown_code(code)


def error_body(request: web.Request, error: EngineError) -> dict[str, Any]:
    """The six keys of an error."""
    if isinstance(error, StoredError):
        return stored_error(request, error.fault, error.root)
    case = TABLE.get(error.code)
    status = _status(request, error.code)
    text = case.text if case and case.text else "Unexpected error." if error.code.kind is Kind.FAILED else error.message
    return six_keys(status, exception_of(status), text)


def stored_error(request: web.Request, fault: PreviewFault, root: str) -> dict[str, Any]:
    """The six keys of an error that is stored.

    root  the folder of the dataset, which is cut off the paths of the cause
    """
    status = _status(request, fault.code)
    text = fault.message or TABLE[fault.code].text
    cause = (fault.cause_class, _cut(fault.cause_message, root)) if fault.cause_class else None
    return six_keys(status, exception_of(status), text, cause=cause, traceback=_traceback(request, fault, root))


def _status(request: web.Request, code: Code) -> int:
    if code in MOVABLE:
        return request.app[OPTIONS].preview_not_found_status
    return TABLE[code].status if code in TABLE else status_of(code)


def _cut(text: str, root: str) -> str:
    without = text.replace(root + "/", "").replace(root, "") if root else text
    return without[:MAX_CAUSE_CHARACTERS]


def _traceback(request: web.Request, fault: PreviewFault, root: str) -> list[str]:
    """For the admin, unless the setting says for all or for nobody."""
    wanted = request.app[OPTIONS].preview_tracebacks
    caller = request.get(CALLER)
    if wanted == "none" or (wanted == "admin" and not (caller and caller.is_admin)):
        return []
    return [line.replace(root + "/", "") if root else line for line in fault.traceback]


def _cache_headers(request: web.Request, error: EngineError, body: dict[str, Any]) -> dict[str, str]:
    """An error that is gone soon is kept for a short time; who asks decides what there is, so `Vary` names the credential."""
    seconds = request.app[OPTIONS].max_age_short_seconds
    if isinstance(error, NotReady):
        seconds = min(seconds, error.retry_after_s or 1)
    if body["status_code"] in NEVER_KEPT or request.method == "POST":
        seconds = 0
    return cache_headers(request, seconds, is_private=bool(body["cause_traceback"]), varies=True)


def cache_headers(request: web.Request, seconds: int, *, is_private: bool = False, varies: bool = False) -> dict[str, str]:
    """How long an answer may be kept, and by whom.

    is_private  only the sender may keep it, whatever it is about
    varies      it depends on the credential
    """
    is_private = is_private or request.get(IS_PRIVATE, False)
    headers = {"Vary": "Authorization"} if is_private or varies else {}
    if seconds <= 0:
        return {"Cache-Control": NO_STORE, **headers}
    return {"Cache-Control": f"{'private' if is_private else 'public'}, max-age={seconds}", **headers}
