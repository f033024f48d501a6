"""Tokens over HTTP: callers make, list and revoke their own. Only the answer that makes a token has its value."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from engine.errors import EngineError
from engine.store import TokenRow
from engine.tokens import UNKNOWN_TOKEN, Tokens
from handlers.http.bodies import Body
from handlers.http.errors import json_response
from handlers.http.routes import Route
from handlers.projects.admission import FULL, admit_caller, read_body
from handlers.projects.errors import SURFACE
from handlers.projects.parameters import LIST_QUERY, iid, list_part
from handlers.projects.shapes import TokenAnswer

TOKENS = web.AppKey("tokens", Tokens)
NO_STORE = {"Cache-Control": "no-store"}


class TokenRequest(Body):
    """Body of POST /user/access_tokens. `expires_at` is needed; it is checked together with what a token may be."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    expires_at: str | None = None


async def list_tokens(request: web.Request) -> web.Response:
    """The caller's tokens, newest first."""
    caller = await admit_caller(request)
    limit, before = list_part(request)
    found = await request.app[TOKENS].of_user(caller.name, before=before, limit=limit)
    return json_response([_shown(row) for row in found], sort_keys=False)


async def make_token(request: web.Request) -> web.Response:
    """Make a token. Its value is shown in this answer only."""
    caller = await admit_caller(request)
    body = await read_body(request, TokenRequest)
    made = await request.app[TOKENS].make(caller, body.name, body.expires_at)
    return json_response({**_shown(made.row), "Token": made.value}, status=201, headers=NO_STORE, sort_keys=False)


async def delete_token(request: web.Request) -> web.Response:
    """End a token at once."""
    await _revoke(request)
    return web.Response(status=204)


async def revoke_token(request: web.Request) -> web.Response:
    """End a token at once, and show it."""
    return json_response(_shown(await _revoke(request)), sort_keys=False)


async def _revoke(request: web.Request) -> TokenRow:
    caller = await admit_caller(request)
    number = iid(request.match_info["iid"])
    if number is None:
        raise EngineError(UNKNOWN_TOKEN, "A token has a number.")
    return await request.app[TOKENS].revoke(caller.name, number)


def _shown(row: TokenRow) -> TokenAnswer:
    return {
        "IId": row.iid,
        "Name": row.name,
        "Prefix": row.prefix,
        "ExpiresAt": row.expires_at,
        "CreatedAt": row.created_at,
        "LastUsedAt": row.last_used_at,
        "RevokedAt": row.revoked_at,
    }


# Routes

REFUSALS = {401: "credentials are missing or wrong, or the token has ended", 403: "the key is read-only"}
PATH = "/user/access_tokens"

ROUTES = (
    Route(
        method="GET",
        path=PATH,
        handler=list_tokens,
        surface=SURFACE,
        summary="The caller's tokens, newest first, also those that have ended",
        key=FULL,
        answers={200: "the tokens without their values", 422: "limit or before is not a number"} | REFUSALS,
        reply=list[TokenAnswer],
        query=LIST_QUERY,
    ),
    Route(
        method="POST",
        path=PATH,
        handler=make_token,
        surface=SURFACE,
        summary="Make a token; its value is shown once",
        key=FULL,
        body=TokenRequest,
        answers={
            201: "the token with its value",
            400: "the body is not JSON",
            413: "the body is larger than 1 MiB",
            422: "a field is wrong, or expires_at is not allowed",
            429: "the caller has 1,000 tokens",
            507: "the disk of the server is full",
        }
        | REFUSALS,
        reply=TokenAnswer,
        admit=admit_caller,
    ),
    Route(
        method="DELETE",
        path=PATH + "/{iid}",
        handler=delete_token,
        surface=SURFACE,
        summary="Revoke a token at once",
        key=FULL,
        answers={204: "the token opens nothing any more", 404: "the caller has no such token"} | REFUSALS,
    ),
    Route(
        method="POST",
        path=PATH + "/{iid}/revoke",
        handler=revoke_token,
        surface=SURFACE,
        summary="Revoke a token at once, and show it",
        key=FULL,
        answers={200: "the token", 404: "the caller has no such token"} | REFUSALS,
        reply=TokenAnswer,
        admit=admit_caller,
    ),
)
