"""Accounts over HTTP: check a credential, make a user, replace a key.

Reads small JSON bodies and forms. The server shows a key once, in the answer to the request that made it, and never again.
"""

import re
from typing import NotRequired
from urllib.parse import parse_qsl

from aiohttp import hdrs, web
from typing_extensions import TypedDict

from engine.errors import INVALID_PARAMETER, NO_CREDENTIALS, EngineError
from engine.store import KeyKind
from handlers.http.auth import credential, known_caller, require_admin, require_full, require_key
from handlers.http.bodies import Body, json_body, small_body
from handlers.http.errors import json_response
from handlers.http.keys import ACCOUNTS
from handlers.http.routes import Route, Surface

SURFACE = Surface(name="accounts")
NONCE = re.compile(r"[0-9a-f]{32,128}")
FORM = "application/x-www-form-urlencoded"
NO_STORE = {"Cache-Control": "no-store"}
# `key` of routes that make what would outlive a token.
FULL_KEY, ADMINS_KEY = "full, but no token", "admin, but no token"


class NewUser(Body):
    """Body of POST /api/users."""

    name: str


class NewKey(Body):
    """Body of POST /api/keys."""

    kind: KeyKind


class VerifyAnswer(TypedDict):
    """`success` is the text `true`, as clients of ScienceOps expect."""

    success: str


class ProofAnswer(TypedDict):
    """HMAC of the nonce and the server's port."""

    proof: str


class KeyAnswer(TypedDict):
    """A new key, which is shown in this answer only; with the name of its user, where it is not the caller's own."""

    key: str
    kind: KeyKind
    name: NotRequired[str]


async def verify(request: web.Request) -> web.Response:
    """Check that a user and a key belong together. Takes them from the header, else the query, else a form."""
    user, key = await _offered(request)
    try:
        await request.app[ACCOUNTS].identify(user, key)
    except EngineError as error:
        raise _no_match(error) from None
    return json_response({"success": "true"})


async def _offered(request: web.Request) -> tuple[str | None, str]:
    """The credential of a /verify request, in any of the ways in which clients send it: those of Yhat use the query."""
    if hdrs.AUTHORIZATION in request.headers:
        try:
            return credential(request)
        except EngineError as error:
            raise _no_match(error) from None
    if "username" in request.query and "apikey" in request.query:
        return request.query["username"], request.query["apikey"]
    form = await _form(request)
    if "username" in form and "apikey" in form:
        return form["username"], form["apikey"]
    raise EngineError(NO_CREDENTIALS, "No auth provided")


def _no_match(error: EngineError) -> EngineError:
    """The same refusal in the words that clients of ScienceOps know."""
    return EngineError(error.code, "APIKEY did not match")


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a url-encoded body. A body of another type is not read and has none."""
    if request.content_type != FORM:
        return {}
    return dict(parse_qsl((await small_body(request)).decode("utf-8", "replace")))


async def prove(request: web.Request) -> web.Response:
    """Prove to a client on this machine that the server owns the key file, before the client sends the key in it."""
    nonce = request.query.get("nonce", "")
    if not NONCE.fullmatch(nonce) or request.transport is None:
        raise EngineError(INVALID_PARAMETER, "nonce must have 32 to 128 hex digits")
    port = request.transport.get_extra_info("sockname")[1]
    return json_response({"proof": await request.app[ACCOUNTS].prove(nonce, port)}, headers=NO_STORE)


async def add_user(request: web.Request) -> web.Response:
    """Make a user. Its full key is shown in this answer only."""
    await _admin_with_key(request)
    body = await json_body(request, NewUser)
    key = await request.app[ACCOUNTS].add_user(body.name)
    answer: KeyAnswer = {"key": key, "kind": "full", "name": body.name}
    return json_response(answer, status=201, headers=NO_STORE)


async def replace_key(request: web.Request) -> web.Response:
    """Give the caller a new key of one kind. The old key of that kind is refused from now on."""
    caller = await known_caller(request)
    require_full(caller)
    require_key(caller)
    body = await json_body(request, NewKey)
    key = await request.app[ACCOUNTS].replace_key(caller.name, body.kind)
    answer: KeyAnswer = {"key": key, "kind": body.kind}
    return json_response(answer, status=201, headers=NO_STORE)


async def reset_key(request: web.Request) -> web.Response:
    """Give a user who lost a key a new one of the same kind. The old key of that kind is refused from now on."""
    await _admin_with_key(request)
    body = await json_body(request, NewKey)
    name = request.match_info["name"]
    key = await request.app[ACCOUNTS].reset_key(name, body.kind)
    answer: KeyAnswer = {"key": key, "kind": body.kind, "name": name}
    return json_response(answer, status=201, headers=NO_STORE)


async def _admin_with_key(request: web.Request) -> None:
    """EngineError as `require_admin` and `require_key`."""
    caller = await known_caller(request)
    require_admin(caller)
    require_key(caller)


# Routes

BODY_REFUSALS = {
    400: "the body could not be decoded",
    413: "the body is larger than 64 KiB",
    415: "the Content-Encoding is unknown",
}

ROUTES = (
    Route(
        method="POST",
        path="/verify",
        handler=verify,
        surface=SURFACE,
        summary="Check credentials: Basic, Bearer, or username and apikey as query or url-encoded form",
        key="itself",
        answers={200: "the credentials are right", 401: "credentials are missing or wrong"},
        reply=VerifyAnswer,
        query={"username": "the user", "apikey": "the user's key"},
    ),
    Route(
        method="GET",
        path="/api/proof",
        handler=prove,
        surface=SURFACE,
        summary="Prove that the server owns its key file, to a client that has read the file",
        key="none",
        answers={200: "proof: HMAC of the nonce and our port", 400: "there is no nonce, or it cannot be one"},
        reply=ProofAnswer,
        query={"nonce": "32 to 128 random hex digits"},
    ),
    Route(
        method="POST",
        path="/api/users",
        handler=add_user,
        surface=SURFACE,
        summary="Make a user; the key is shown once",
        key=ADMINS_KEY,
        body=NewUser,
        answers={
            201: "key, kind and name",
            401: "credentials are missing or wrong",
            403: "the caller is not the admin, or has sent a token",
            409: "the name is taken",
            422: "the name is not allowed",
            507: "the disk of the server is full",
        }
        | BODY_REFUSALS,
        reply=KeyAnswer,
        admit=known_caller,
    ),
    Route(
        method="POST",
        path="/api/users/{name}/keys",
        handler=reset_key,
        surface=SURFACE,
        summary="Replace a user's key of one kind; the new key is shown once",
        key=ADMINS_KEY,
        body=NewKey,
        answers={
            201: "key, kind and name",
            401: "credentials are missing or wrong",
            403: "the caller is not the admin, or has sent a token",
            422: "there is no such user, or no such kind",
        }
        | BODY_REFUSALS,
        reply=KeyAnswer,
        admit=known_caller,
    ),
    Route(
        method="POST",
        path="/api/keys",
        handler=replace_key,
        surface=SURFACE,
        summary="Replace the caller's key of one kind; the new key is shown once",
        key=FULL_KEY,
        body=NewKey,
        answers={
            201: "key and kind",
            401: "credentials are missing or wrong",
            403: "a full key is needed; a token makes none",
            422: "there is no such kind",
            507: "the disk of the server is full; the old key still works",
        }
        | BODY_REFUSALS,
        reply=KeyAnswer,
        admit=known_caller,
    ),
)
