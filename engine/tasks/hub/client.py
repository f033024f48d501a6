"""HTTP of a hub: GET with redirects and ranges. Knows no datasets.

The token is sent to the endpoint alone. A redirect may lead to another host, where large files lie, but never from https to http.
"""

import http.client
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

TIMEOUT_S = 20.0
MAX_REDIRECTS = 5
CHUNK_BYTES = 256 * 1024
# Of an answer in JSON: a dataset with 100,000 files has about 20 MB.
MAX_JSON_BYTES = 64 * 1024 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What a hub says to those who may not know of a dataset, or when there is none.
ABSENT = frozenset({401, 403, 404, 410})


class Unreachable(Exception):
    """The hub did not answer, or not as a hub does."""


class Absent(Exception):
    """The hub has no such thing for us."""


class Origin(NamedTuple):
    """What two addresses share that lead to the same server."""

    scheme: str
    host: str
    port: int


class Client:
    """Asks one hub, on one connection for each host that it leads to; a context manager that closes them."""

    def __init__(self, endpoint: str, token: str | None) -> None:
        self._endpoint = endpoint
        self._home = origin_of(endpoint)
        self._token = token
        self._connections: dict[Origin, http.client.HTTPConnection] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def whole(self, path: str) -> tuple[bytes, str]:
        """The body at a path of the hub, and the address where a list goes on, or an empty text. Absent, Unreachable."""
        with self._opened(path, {}) as response:
            body = b"".join(_pieces(response, MAX_JSON_BYTES))
            return body, _next(response.headers.get("Link") or "")

    def pieces(self, path: str, num_bytes: int, size: int) -> Iterator[bytes]:
        """The first bytes of a file that has this size. Absent, Unreachable."""
        headers = {"Range": f"bytes=0-{num_bytes - 1}"} if num_bytes < size else {}
        with self._opened(path, headers) as response:
            left = num_bytes
            for piece in _pieces(response, size):
                yield piece[:left]
                left -= min(left, len(piece))
                if not left:
                    break
            if not response.isclosed():  # the rest of the body is not read, and would be the next answer
                self._close()
        if left:
            raise Unreachable("a file ended before its end")

    def _opened(self, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer with status 200 or 206, after redirects."""
        url = joined(f"{self._endpoint}/", path)
        for _ in range(MAX_REDIRECTS + 1):
            response = self._sent(url, headers)
            if response.status in REDIRECTS and (location := response.headers.get("Location")):
                response.read(MAX_JSON_BYTES)
                url = self._followed(url, location)
                continue
            if response.status in (200, 206):
                return response
            self._forget(url)
            if response.status in ABSENT:
                raise Absent
            raise Unreachable(f"it answered with status {response.status}")
        raise Unreachable("it redirects again and again")

    def _sent(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        origin, parts = origin_of(url), urlsplit(url)
        sent = {"User-Agent": "sluice", "Accept-Encoding": "identity", **headers}
        if self._token and origin == self._home:
            sent["Authorization"] = f"Bearer {self._token}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        is_kept = origin in self._connections
        try:
            return self._ask(origin, target, sent)
        except (OSError, http.client.HTTPException) as error:
            self._forget(url)
            if not is_kept:
                raise Unreachable(_reason(error)) from None
        try:  # the other side may have closed a connection that was kept
            return self._ask(origin, target, sent)
        except (OSError, http.client.HTTPException) as error:
            self._forget(url)
            raise Unreachable(_reason(error)) from None

    def _ask(self, origin: Origin, target: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = self._connections.get(origin)
        if connection is None:
            connection = self._connections[origin] = _connection(origin)
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _forget(self, url: str) -> None:
        if connection := self._connections.pop(origin_of(url), None):
            connection.close()

    def _followed(self, url: str, location: str) -> str:
        found = joined(url, location)
        if origin_of(found).scheme != "https" and origin_of(url).scheme == "https":
            raise Unreachable("it redirects from https to http")
        return found


def joined(url: str, location: str) -> str:
    """An address that may be relative to another one. Unreachable for one that is none."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise Unreachable("it names an address that is none") from None


def _connection(origin: Origin) -> http.client.HTTPConnection:
    if origin.scheme == "https":
        return http.client.HTTPSConnection(origin.host, origin.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(origin.host, origin.port, timeout=TIMEOUT_S)


def origin_of(url: str) -> Origin:
    """Unreachable for an address that is none of http."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Unreachable("it names an address that is none") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None or not url.isascii():
        raise Unreachable("it names an address that is none")
    return Origin(parts.scheme, parts.hostname.lower(), port)


def _pieces(response: http.client.HTTPResponse, most: int) -> Iterator[bytes]:
    """The body. Unreachable for one that is longer, or that breaks off."""
    total = 0
    try:
        while piece := response.read(CHUNK_BYTES):
            total += len(piece)
            if total > most:
                raise Unreachable("an answer is longer than it should be")
            yield piece
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_reason(error)) from None


def _next(link: str) -> str:
    """The address in a header `Link: <address>; rel="next"`."""
    for one in link.split(","):
        address, _, parameters = one.partition(";")
        if 'rel="next"' in parameters:
            return address.strip().strip("<>")
    return ""


def _reason(error: Exception) -> str:
    """Without the address, which messages of the system may name."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    return f"the connection failed ({type(error).__name__})"
