"""Bodies that are small and become large when they are decoded, sent to every route that takes one: nobody else waits for them."""

import gzip
import re

import pytest

from handlers.http.routes import Route
from handlers.openapi import public_path
from server.app import ROUTES
from tests.clients import curl
from tests.serving import Server
from tests.streaming.test_loop import LONGEST_S, MEMBERS, MIB, Healthchecks

ZEROS = gzip.compress(bytes(64 * MIB), 9)
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


@pytest.mark.heavy
@pytest.mark.parametrize("body", [ZEROS, MEMBERS, EMPTY], ids=["zeros", "members", "empty"])
def test_no_route_holds_the_loop_while_it_decodes(server: Server, body: bytes) -> None:
    headers = ("-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json")
    times = {}
    for route in TAKING:
        with Healthchecks(server) as checks:
            done = curl(
                server.url + path_of(route), "-X", route.method, *headers, "--data-binary", "@-", auth=server.auth, data=body
            )
        assert done.status not in (None, 0, 500), f"{route.method} {route.path}: {done.body[:200]!r}"
        times[f"{route.method} {route.path}"] = checks.longest_s
    assert {route: seconds for route, seconds in times.items() if seconds > LONGEST_S} == {}
