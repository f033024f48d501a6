"""Bodies that are small and become large when they are decoded, sent to every route that takes one: nobody else waits for them."""

import gzip
import re

import pytest

from handlers.http.routes import Route
from handlers.openapi import public_path
from server.app import ROUTES
from tests.clients import curl
from tests.serving import Server
from tests.streaming.test_loop import LONGEST_S, MEMBERS, ZEROS, Healthchecks

EMPTY = gzip.compress(b"") * 20_000
TAKING = [route for route in ROUTES if route.bodies and not route.is_alias]
# What stands in a path. The names are such that nothing of anybody's is changed.
NAMES = {
    **{"owner": "brandon", "model": "HelloWorld", "org": "admin", "dataset": "bomb"},
    **{"workspace": "admin", "team": "admin", "name": "nobody"},
}


def path_of(route: Route) -> str:
    path = re.sub(r"\{(\w+)\}", lambda found: NAMES.get(found[1], "1"), public_path(route))
    return path + ("?bulk=true" if route.when else "")


def longest_s(server: Server, route: Route, body: bytes) -> float:
    """The longest that somebody else waited for an answer while a route got a body."""
    headers = ("-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json")
    arguments = ("-X", route.method, *headers, "--data-binary", "@-")
    with Healthchecks(server) as checks:
        done = curl(server.url + path_of(route), *arguments, auth=server.auth, data=body)
    assert done.status not in (0, 500), f"{route.method} {route.path}: {done.body[:200]!r}"
    return checks.longest_s


@pytest.mark.heavy
@pytest.mark.parametrize("body", [ZEROS, MEMBERS, EMPTY], ids=["zeros", "members", "empty"])
def test_no_route_holds_the_loop_while_it_decodes(server: Server, body: bytes) -> None:
    """A loop that is held needs a second or more, each time; other programs of the machine seldom come in between three times."""
    held = []
    for route in TAKING:
        if all(longest_s(server, route, body) > 2 * LONGEST_S for _ in range(3)):
            held.append(f"{route.method} {route.path}")
    assert held == []
