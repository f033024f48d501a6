"""The queue of preview over HTTP, and the hooks by which other programs say that a dataset has changed."""

import hmac
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import ujson
from aiohttp import web

from engine.accounts import Caller
from engine.datasets.catalogue import DATASET_NOT_FOUND
from engine.errors import Code, EngineError, Kind
from engine.preview.catalogue import is_name
from engine.preview.faults import SPLIT_NOT_FOUND
from engine.preview.reports import JOB_STATUSES, MAX_DUMPED
from engine.store import JobRow, StoreError
from handlers.http.bodies import small_body
from handlers.http.errors import dumps, refusal_headers, status_of
from handlers.http.routes import Route, whole
from handlers.http.sharing import NO_STORE
from handlers.preview.admission import LIST_KEY, SURFACE, parameter, who
from handlers.preview.answers import JSON, report
from handlers.preview.keys import HOOKS, OPTIONS, PREVIEW, REPORTS
from handlers.preview.lists import created_at, status_word
from handlers.preview.shapes import DumpAnswer, HookAnswer, QueueAnswer, SplitBody, WebhookBody

log = logging.getLogger("sluice.preview")

Json = dict[str, Any]

INVALID_HOOK = Code("invalid_hook", Kind.MALFORMED, "the body of a hook of preview is not what it must be")
WRONG_SECRET = Code("wrong_secret", Kind.UNIDENTIFIED, "the header X-Webhook-Secret is missing or wrong")

NOT_JSON = "the body could not be parsed as a JSON"
BAD_PAYLOAD = "the JSON payload is invalid"
BAD_NAME = "the dataset name is invalid"
NO_SPLIT = "the split does not exist"
FAULT = "application error"
PREFIX = "datasets/"
SECRET = "X-Webhook-Secret"

# Reports


async def queue(request: web.Request) -> web.Response:
    """How many jobs of datasets and splits there are, by status."""
    await who(request)
    value = {**await request.app[REPORTS].queue(), "created_at": created_at()}
    return await report(request, value, request.app[OPTIONS].max_age_short_seconds, depends_on_caller=False)


async def queue_dump(request: web.Request) -> web.Response:
    """The jobs themselves, oldest first."""
    return await _dump(request, JOB_STATUSES)


async def queue_dump_waiting_started(request: web.Request) -> web.Response:
    """Those that wait and those that are started."""
    return await _dump(request, JOB_STATUSES[:2])


async def _dump(request: web.Request, statuses: Sequence[str]) -> web.Response:
    limit, offset = _count(request, "limit", MAX_DUMPED), _count(request, "offset", 0)
    dump = await request.app[REPORTS].dump(await who(request), statuses, min(limit, MAX_DUMPED), offset)
    value: Json = {
        "datasets": _by_status(request, dump.datasets, statuses),
        "splits": _by_status(request, dump.splits, statuses),
        "created_at": created_at(),
    }
    if dump.is_truncated:
        value["truncated"] = True
    return await report(request, value, request.app[OPTIONS].max_age_short_seconds, depends_on_caller=True)


def _by_status(request: web.Request, jobs: Sequence[JobRow], statuses: Sequence[str]) -> dict[str, list[Json]]:
    entries: dict[str, list[Json]] = {status: [] for status in statuses}
    for job in jobs:
        names = {"dataset_name": job.dataset}
        if job.split is not None:
            names |= {"config_name": job.config, "split_name": job.split}
        times = {"created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at}
        entries[job.status].append({**names, "status": status_word(request, job.status), **times})
    return entries


def _count(request: web.Request, name: str, default: int) -> int:
    text = parameter(request, name)
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


# Hooks


async def webhook(request: web.Request) -> web.Response:
    """Datasets that were added, changed or removed."""
    try:
        caller, body = await _hook(request)
        if not isinstance(body, dict):
            raise EngineError(INVALID_HOOK, BAD_PAYLOAD)
        names = {word: name for word in ("add", "update", "remove") if (name := _dataset(body.get(word)))}
        if names:
            names = {word: await _changeable(request, caller, name) for word, name in names.items()}
            asked = [names[word] for word in ("add", "update") if word in names]
            await request.app[HOOKS].run(asked=asked, removed=names.get("remove"))
    except (EngineError, StoreError) as error:
        return _hook_refused(request, error)
    return _hook_answer(200, {"status": "ok"})


async def refresh_split(request: web.Request) -> web.Response:
    """A split that is to be read again."""
    try:
        caller, body = await _hook(request)
        name, config, split = _split(body)
        await request.app[HOOKS].refresh_split(await _changeable(request, caller, name), config, split)
    except (EngineError, StoreError) as error:
        return _hook_refused(request, error)
    return _hook_answer(200, {"status": "ok"})


async def _hook(request: web.Request) -> tuple[Caller | None, Any]:
    """Who calls, and the JSON of the body. EngineError `wrong_secret`, `unauthorized`, `body_too_large`, `invalid_hook`."""
    secret = request.app[OPTIONS].webhook_secret
    if secret is not None and not _is_secret(request, secret):
        raise EngineError(WRONG_SECRET, "the secret is wrong")
    caller = await who(request)
    body = await small_body(request)
    try:
        return caller, ujson.loads(body.decode("utf-8"))
    except ValueError:
        raise EngineError(INVALID_HOOK, NOT_JSON) from None


def _is_secret(request: web.Request, secret: str) -> bool:
    return hmac.compare_digest(request.headers.get(SECRET, "").encode("utf-8", "surrogateescape"), secret.encode())


async def _changeable(request: web.Request, caller: Caller | None, name: str) -> str:
    """The dataset that a hook is about, as `States.visible` gives it: with the secret anybody may have anything done.

    raises  EngineError `split_not_found`: there can be no such dataset
    """
    if request.app[OPTIONS].webhook_secret is not None:
        return name
    try:
        return await request.app[PREVIEW].states.visible(caller, name)
    except EngineError as error:
        if error.code != DATASET_NOT_FOUND:
            raise
        raise EngineError(SPLIT_NOT_FOUND, NO_SPLIT) from None


def _dataset(value: Any) -> str | None:
    """The name in `datasets/NAME`; None for other repositories, which use the same hook. EngineError `invalid_hook`."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise EngineError(INVALID_HOOK, BAD_PAYLOAD)
    if not value.startswith(PREFIX):
        return None
    name = value.removeprefix(PREFIX)
    if not is_name(name):
        raise EngineError(INVALID_HOOK, BAD_NAME)
    return name


def _split(body: Any) -> tuple[str, str, str]:
    if not isinstance(body, Mapping):
        raise EngineError(INVALID_HOOK, BAD_PAYLOAD)
    values = [body.get(name) for name in ("dataset", "config", "split")]
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise EngineError(INVALID_HOOK, BAD_PAYLOAD)
    dataset, config, split = values
    return str(dataset), str(config), str(split)


def _hook_refused(request: web.Request, error: EngineError | StoreError) -> web.Response:
    """A refusal of a hook has a shape of its own."""
    if isinstance(error, StoreError):
        log.error("hook not carried out path=%s reason=%r", request.path, str(error))
        return _hook_answer(500, {"status": "error", "error": FAULT})
    status = 400 if error.code == SPLIT_NOT_FOUND else status_of(error.code)
    message = FAULT if error.code.kind is Kind.FAILED else error.message
    return _hook_answer(status, {"status": "error", "error": message}, refusal_headers(status, error.retry_after_s))


def _hook_answer(status: int, value: Json, headers: Mapping[str, str] | None = None) -> web.Response:
    body = dumps(value, sort_keys=False)
    return web.Response(body=body, status=status, headers={"Cache-Control": NO_STORE, **(headers or {})}, content_type=JSON)


REPORT = {200: "the report", 401: "the credentials are wrong"}
HOOK_KEY = "none, unless SLUICE_WEBHOOK_SECRET is set"
HOOK = {
    200: '`{"status":"ok"}`',
    400: "the body is not what it must be",
    401: "the secret or the credentials are wrong",
    413: "the body is larger than 64 KiB",
    429: "too many jobs wait",
}
HOOK_REFUSALS = [status for status in HOOK if status >= 400]
PAGING = {"limit": whole("at most this many entries, up to 10,000"), "offset": whole("after this many")}

ROUTES = (
    Route(
        method="GET",
        path="/queue",
        handler=queue,
        surface=SURFACE,
        summary="How many jobs there are",
        key=LIST_KEY,
        answers=REPORT,
        reply=QueueAnswer,
    ),
    Route(
        method="GET",
        path="/queue-dump",
        handler=queue_dump,
        surface=SURFACE,
        summary="The jobs, by status",
        key=LIST_KEY,
        answers=REPORT,
        reply=DumpAnswer,
        query=PAGING,
    ),
    Route(
        method="GET",
        path="/queue-dump-waiting-started",
        handler=queue_dump_waiting_started,
        surface=SURFACE,
        summary="The jobs that wait or are started",
        key=LIST_KEY,
        answers=REPORT,
        reply=DumpAnswer,
        query=PAGING,
    ),
    Route(
        method="POST",
        path="/webhook",
        handler=webhook,
        surface=SURFACE,
        summary="Compute datasets anew, or take one out",
        key=HOOK_KEY,
        body=WebhookBody,
        answers=HOOK,
        reply=HookAnswer,
        replies=dict.fromkeys(HOOK_REFUSALS, HookAnswer),
    ),
    Route(
        method="POST",
        path="/refresh-split",
        handler=refresh_split,
        surface=SURFACE,
        summary="Read a split again",
        key=HOOK_KEY,
        body=SplitBody,
        answers=HOOK,
        reply=HookAnswer,
        replies=dict.fromkeys(HOOK_REFUSALS, HookAnswer),
    ),
)
