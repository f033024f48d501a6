"""Accounts over HTTP: check a credential, make a user, replace a key.

Reads small JSON bodies and forms. A key leaves the server in the answer that makes it and nowhere else.
"""

import asyncio
from typing import TypeVar
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, ValidationError

from engine.errors import EngineError
from engine.repository.config import first_fault
from engine.store import KeyKind
from handlers.http.auth import credential, known_caller, require_admin, require_full
from handlers.http.errors import json_response
from handlers.http.keys import ACCOUNTS, REQUEST_TIMEOUT
from handlers.http.routes import Route, answer_expectation
from handlers.streaming.bulk import read_some

SMALL_BODY_LIMIT_BYTES = 64 * 1024
FORM = "application/x-www-form-urlencoded"
NO_STORE = {"Cache-Control": "no-store"}


class Body(BaseModel):
    """A request body: an unknown field is refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewUser(Body):
    """Body of POST /api/users."""

    name: str


class NewKey(Body):
    """Body of POST /api/keys."""

    kind: KeyKind


BodyT = TypeVar("BodyT", bound=BaseModel)


async def verify(request: web.Request) -> web.Response:
    """Whether a user and a key fit. Takes them from the header, else the query, else a form."""
    user, key = await _offered(request)
    try:
        await request.app[ACCOUNTS].identify(user, key)
    except EngineError as error:
        raise EngineError(error.code, "APIKEY did not match") from None
    return json_response({"success": "true"})


async def _offered(request: web.Request) -> tuple[str | None, str]:
    """The credential of a /verify request, as its clients send it: the Yhat ones use the query."""
    if hdrs.AUTHORIZATION in request.headers:
        try:
            return credential(request)
        except EngineError as error:
            raise EngineError(error.code, "APIKEY did not match") from None
    if "username" in request.query and "apikey" in request.query:
        return request.query["username"], request.query["apikey"]
    form = await _form(request)
    if "username" in form and "apikey" in form:
        return form["username"], form["apikey"]
    raise EngineError("no_credentials", "No auth provided")


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a url-encoded body; none for a body of another type, which is not read."""
    if request.content_type != FORM:
        return {}
    return dict(parse_qsl((await small_body(request)).decode("utf-8", "replace")))


async def add_user(request: web.Request) -> web.Response:
    """Make a user; its full key is shown once."""
    require_admin(await known_caller(request))
    body = await json_body(request, NewUser)
    key = await request.app[ACCOUNTS].add_user(body.name)
    return json_response({"key": key, "kind": "full", "name": body.name}, status=201, headers=NO_STORE)


async def replace_key(request: web.Request) -> web.Response:
    """Give the caller a new key of one kind; the old one of that kind ends at once."""
    caller = await known_caller(request)
    require_full(caller)
    body = await json_body(request, NewKey)
    key = await request.app[ACCOUNTS].replace_key(caller.name, body.kind)
    return json_response({"key": key, "kind": body.kind}, status=201, headers=NO_STORE)


async def expect(request: web.Request) -> web.StreamResponse | None:
    """`Expect: 100-continue`: without a good credential the body is never asked for."""
    return await answer_expectation(request, known_caller)


async def json_body(request: web.Request, model: type[BodyT]) -> BodyT:
    """A small JSON body. EngineError `body_too_large`, `invalid_body` if it is not JSON, `invalid_request` for a wrong field."""
    body = await small_body(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        if fault["type"] == "json_invalid":
            raise EngineError("invalid_body", f"could not decode body: {fault['ctx']['error']}") from None
        raise EngineError("invalid_request", first_fault(error)) from None


async def small_body(request: web.Request) -> bytes:
    """The whole body, at most 64 KiB. EngineError `body_too_large`, as soon as that is known."""
    body = bytearray()
    if (request.content_length or 0) <= SMALL_BODY_LIMIT_BYTES:
        async with asyncio.timeout(request.app[REQUEST_TIMEOUT]):
            while len(body) <= SMALL_BODY_LIMIT_BYTES and (chunk := await read_some(request)):
                body += chunk
        if len(body) <= SMALL_BODY_LIMIT_BYTES:
            return bytes(body)
    raise EngineError("body_too_large", f"body larger than {SMALL_BODY_LIMIT_BYTES} bytes")


ROUTES = [
    Route(
        "POST",
        "/verify",
        verify,
        "Check credentials: Basic, Bearer, or username and apikey as query or url-encoded form",
        key="itself",
        answers={200: "the credentials fit", 401: "none were sent, or they do not fit"},
        query={"username": "the user", "apikey": "its key"},
    ),
    Route(
        "POST",
        "/api/users",
        add_user,
        "Make a user; the key is shown once",
        key="admin",
        body=NewUser,
        answers={201: "key, kind and name", 403: "not the admin", 409: "the name is taken", 422: "the name is not possible"},
        expect=expect,
    ),
    Route(
        "POST",
        "/api/keys",
        replace_key,
        "Replace the caller's key of one kind; the key is shown once",
        key="full",
        body=NewKey,
        answers={201: "key and kind", 403: "a full key is needed", 422: "no such kind"},
        expect=expect,
    ),
]
