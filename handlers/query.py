"""Queries over HTTP: `POST /api/query/v1`, and the same in the shape of a workspace, `POST /workspaces/{w}/tables/query`.

Decides who may ask, in which format the answer goes back, and how it ends. Knows nothing of what a query says or of what its rows
hold: replicas read the bodies and encode the answers.
"""

import asyncio
import logging
import re
from functools import lru_cache, partial
from typing import Any, Literal

from aiohttp import hdrs, web
from pydantic import BaseModel
from typing_extensions import TypedDict

from engine import metrics
from engine.accounts import OWNER_NAME, Caller, Right
from engine.disk import disk_full
from engine.errors import EngineError
from engine.query.queries import DEFAULT_TIMEOUT_S, OpenQuery, Plan, Queries
from engine.replicas.flow import Flow
from engine.roles import Role
from handlers.http.auth import known_caller, while_valid
from handlers.http.bodies import NDJSON, PIECE_BYTES, check_head, read_whole, unless_client_leaves
from handlers.http.connections import unsent_bytes
from handlers.http.cutting import cut
from handlers.http.errors import NOT_ACCEPTABLE, NOT_FOUND, UNSUPPORTED_MEDIA_TYPE, coded_refusal, dumps, refuse_with_code
from handlers.http.keys import REQUEST_TIMEOUT
from handlers.http.routes import Route, Surface

log = logging.getLogger("sluice.query")

QUERIES = web.AppKey("queries", Queries)
QUERY_BODY_LIMIT = web.AppKey("query_body_limit_bytes", int)
CALLER = web.RequestKey("query_caller", Caller)

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
# Format, as the field `format` names it -> media type.
MEDIA_TYPES = {"json": JSON, "ndjson": NDJSON, "arrow": ARROW}
# The parameter of a media range in Accept.
WEIGHT = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
# Not a format that a request may ask for: the shape of the workspace, and the answer to `explain`.
TABLE = "table"
EXPLANATION = "explanation"
# What was sent before a failure, and the line that tells of it, get this long to leave.
CUT_FLUSH_S = 2.0
DEFAULT_TIMEOUT_MS = round(DEFAULT_TIMEOUT_S * 1000)


# Who may ask


async def admit(request: web.Request) -> Caller:
    """Check credentials, then the head of the request, then room. EngineError for a refusal.

    The result is kept: where the client waits for `100 Continue`, this is called before the body comes and again by the handler.
    """
    if CALLER not in request:
        caller = await known_caller(request)
        if hdrs.CONTENT_TYPE in request.headers and request.content_type != JSON:
            raise EngineError(UNSUPPORTED_MEDIA_TYPE, "Send the query as application/json.")
        check_head(request, request.app[QUERY_BODY_LIMIT])
        request.app[QUERIES].check_open(caller)
        request[CALLER] = caller
    return request[CALLER]


async def query(request: web.Request) -> web.StreamResponse:
    """Rows as JSON, as lines of JSON or as a stream of Arrow."""
    return await _answered(request)


async def query_workspace(request: web.Request) -> web.StreamResponse:
    """Rows as lists, in the shape of a workspace."""
    workspace = request.match_info["workspace"]
    if not OWNER_NAME.fullmatch(workspace):
        raise EngineError(NOT_FOUND, "not found")
    return await _answered(request, workspace=workspace)


async def _answered(request: web.Request, *, workspace: str | None = None) -> web.StreamResponse:
    caller = await admit(request)
    queries = request.app[QUERIES]
    with queries.places.of(caller):
        body = await read_whole(request, request.app[QUERY_BODY_LIMIT], request.app[REQUEST_TIMEOUT], user=caller.name)
        async with queries.opened(body, caller, workspace=workspace) as opened:
            form_of = partial(_form_of, request, is_table=workspace is not None)
            flow = await unless_client_leaves(request, opened.begin(form_of))
            return await _answer(request, opened, flow)


def _form_of(request: web.Request, plan: Plan, *, is_table: bool) -> str:
    """The format of the answer. EngineError `not_acceptable`."""
    form = TABLE if is_table else plan.format
    return EXPLANATION if plan.explain else form or _accepted(request)


def _accepted(request: web.Request) -> str:
    """The format that Accept gives the highest weight. EngineError `not_acceptable`."""
    form = _best_format(",".join(request.headers.getall(hdrs.ACCEPT, ())).strip() or "*/*")
    if form is None:
        raise EngineError(NOT_ACCEPTABLE, f"The answer is one of {', '.join(MEDIA_TYPES.values())}.")
    return form


@lru_cache(maxsize=64)  # of the few that clients send; to read one takes 10 us
def _best_format(header: str) -> str | None:
    """The format with the highest weight `q`; of several the one that comes first, with JSON first behind a star.

    None where each has the weight 0.
    """
    ranges = [_range(part) for part in header.split(",")]
    weights: dict[str, tuple[float, int]] = {}
    for name, media_type in MEDIA_TYPES.items():
        for wanted in (media_type, "application/*", "*/*"):  # the most specific range that is there says the weight
            places = [place for place, (one, _) in enumerate(ranges) if one == wanted]
            if places:
                weights[name] = max((ranges[place][1], -place) for place in places)
                break
    best = max(weights, key=lambda name: weights[name], default=None)
    return best if best is not None and weights[best][0] else None


def _range(part: str) -> tuple[str, float]:
    """A media range of Accept and its weight, from 0 to 1: 1 unless there is one that can be read."""
    media_type, *parameters = (word.strip().lower() for word in part.split(";"))
    found = (WEIGHT.fullmatch(word) for word in parameters)
    return media_type, next((float(match[1]) for match in found if match), 1.0)


# The answer


async def _answer(request: web.Request, opened: OpenQuery, flow: Flow) -> web.StreamResponse:
    """Send the answer, as the client takes it. The first frame is here, so everything that can refuse the query is over."""
    head = flow.begun.result()
    media_type = MEDIA_TYPES.get(head["format"], JSON)
    headers = _headers(opened) | {hdrs.CONTENT_TYPE: media_type}
    if media_type != JSON:
        exchange = _Exchange(request, web.StreamResponse(headers=headers), flow)
        return await _stream(exchange, opened, with_line=media_type == NDJSON)
    if "rows" in head:
        headers["X-Rows"] = str(head["rows"])
    if head["bytes"] <= PIECE_BYTES and flow.last is not None:
        return await _send(request, opened, web.Response(body=bytes(await flow.get() or b""), headers=headers))
    response = web.StreamResponse(headers=headers)
    response.content_length = head["bytes"]
    return await _stream(_Exchange(request, response, flow), opened, with_line=False)


async def _send(request: web.Request, opened: OpenQuery, response: web.Response) -> web.Response:
    """Send a short answer now: aiohttp would do it when the query is closed and in the log."""
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        opened.outcome = "left"
    return response


def _headers(opened: OpenQuery) -> dict[str, str]:
    """What is known at the first byte."""
    timing = ", ".join(f"{stage};dur={seconds * 1000:.1f}" for stage, seconds in opened.seconds.by_stage.items())
    headers = {"X-Query-Ms": f"{opened.total_s * 1000:.1f}", "Server-Timing": timing}
    return headers | ({"X-Dataset-Versions": ",".join(opened.versions)} if opened.versions else {})


async def _stream(exchange: "_Exchange", opened: OpenQuery, *, with_line: bool) -> web.StreamResponse:
    """Send an answer piece by piece. One that fails is cut; with a line, the client is told why before.

    A slow reader may take hours, so the answer ends with what allowed it: the key, or a role in a team.
    """
    request, response = exchange.request, exchange.response
    error: EngineError | None
    try:
        caller = request[CALLER]
        async with while_valid(request, caller, *_rights(opened, caller)):
            await unless_client_leaves(request, exchange.run())
        error = opened.failure
    except ConnectionError:
        opened.outcome = "left"
        return response
    except EngineError as ended:
        error = ended
    if error is None:
        await response.write_eof()
        return response
    opened.note_failure(error)
    opened.give_up()
    metrics.REJECTED.labels(error.code).inc()
    await cut(request, response, await exchange.last_line(error) if with_line else b"", flush_s=CUT_FLUSH_S)
    return response


def _rights(opened: OpenQuery, caller: Caller) -> list[Right]:
    """The roles by which a caller reads what is in the answer, as far as it is a member of a team that owns some of it."""
    owners = {title.partition("/")[0] for title in opened.versions}
    return [Right(owner, Role.OBSERVER) for owner in sorted(owners & caller.roles.keys())]


class _Exchange:
    """The body of one long answer, on its way from a flow to a socket."""

    def __init__(self, request: web.Request, response: web.StreamResponse, flow: Flow) -> None:
        self.request = request
        self.response = response
        self._flow = flow
        self._written_bytes = 0
        self._last_byte = b"\n"

    async def run(self) -> None:
        """Write until the answer has ended, or failed. Raises ConnectionError."""
        regulator = asyncio.create_task(self._flow.regulate(self._taken_bytes), name="regulate a query")
        try:
            await self.response.prepare(self.request)
            while (piece := await self._flow.get()) is not None:
                self._written_bytes += len(piece)
                self._last_byte = bytes(piece[-1:])
                await self.response.write(piece)
        except ConnectionError:
            raise
        except OSError as error:  # of the spill; what is missing must never look like a clean end
            log.error("the rest of an answer is lost reason=%s", error.__class__.__name__)
            self._flow.fail(disk_full())
        finally:
            regulator.cancel()
            await asyncio.gather(regulator, return_exceptions=True)

    def _taken_bytes(self) -> int:
        """Bytes of the answer that the client's side has acknowledged."""
        transport = self.request.transport
        if transport is None:
            return self._written_bytes
        return self._written_bytes - transport.get_write_buffer_size() - unsent_bytes(transport)

    async def last_line(self, error: EngineError) -> bytes:
        """The line that says why the answer is cut, unless the replica has written it and it was sent."""
        unsent, last = await self._flow.num_lines(), self._flow.last
        if last is not None and "is_told" in last and not unsent:
            return b""
        if last is not None and unsent:
            unsent -= 1  # the last line of an answer is no row
        rows = self._flow.latest.get("rows", 0) - unsent
        line = {"status": "error", "code": error.code, "message": error.message, "rows": rows}
        return (b"" if self._last_byte == b"\n" else b"\n") + dumps(line, sort_keys=False) + b"\n"


# Refusals


def refuse_workspace(request: web.Request, error: EngineError) -> web.Response:
    return coded_refusal({"error": error.message, "code": error.code}, error)


# Routes


class QueryRequest(BaseModel):
    """Body of POST /api/query/v1. For /openapi.json only: a replica reads the bodies."""

    query: str
    as_list: bool = True
    params: list[object] | dict[str, object] | None = None
    dataset: str | None = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    explain: Literal["plan", "analyze"] | Literal[False] = False  # two types, as generators of clients read no mixed enum
    format: Literal["json", "ndjson", "arrow"] | None = None
    class_labels: Literal["names", "ids"] = "names"


class WorkspaceQuery(BaseModel):
    """Body of POST /workspaces/{workspace}/tables/query. For /openapi.json only: a replica reads the bodies."""

    query: str
    params: list[object] | dict[str, object] | None = None
    timeout_ms: int = DEFAULT_TIMEOUT_MS


class QueryAnswer(TypedDict):
    """`data` is a list of objects, one for each row, or with `as_list` false an object of lists. `tensors` names the columns."""

    message: str
    tensors: list[str]
    data: list[dict[str, Any]] | dict[str, list[Any]]


class QueryExplanation(TypedDict):
    """The steps of a query."""

    message: str
    plan: list[dict[str, Any]]
    warnings: list[str]


class WorkspaceAnswer(TypedDict):
    """Rows as lists, in the order of `columns`."""

    columns: list[str]
    rows: list[list[Any]]
    row_count: int


SURFACE = Surface(name="query", refuse=refuse_with_code, prefixes=("/api/query",), schema="CodedError")
WORKSPACE_SURFACE = Surface(name="query", refuse=refuse_workspace, prefixes=("/workspaces",), schema="Error")

REFUSALS = {
    400: "what is wrong with the query, and where",
    401: "the key is missing or wrong",
    404: "there is no such dataset, version or model",
    413: "the body or the text is too large",
    415: "the body is not JSON, or its Content-Encoding is unknown",
    422: "the query needs too much memory",
    429: "too many queries; see Retry-After",
    503: "the server is draining, or no replica is alive; see Retry-After",
    504: "the query passed its time limit",
}

ROUTES = (
    Route(
        method="POST",
        path="/api/query/v1",
        handler=query,
        surface=SURFACE,
        summary="Query datasets with SQL and vector similarity",
        body=QueryRequest,
        answers={200: "the rows", 406: "Accept names no format of the answer"} | REFUSALS,
        reply=(QueryAnswer, QueryExplanation, NDJSON, ARROW),
        admit=admit,
    ),
    Route(
        method="POST",
        path="/workspaces/{workspace}/tables/query",
        handler=query_workspace,
        surface=WORKSPACE_SURFACE,
        summary="The same, in the shape of a workspace",
        body=WorkspaceQuery,
        answers={200: "columns and rows"} | REFUSALS,
        reply=WorkspaceAnswer,
        admit=admit,
    ),
)
