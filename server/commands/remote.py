"""Where the command-line clients find their server, and as which user they ask: one rule for all of them.

A flag comes first, then the environment, then what the server of this machine wrote. Knows nothing of the requests themselves.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from server.commands.usage import UsageError

DEFAULT_PORT = "9000"
ADMIN = "admin"
PROOF_TIMEOUT_S = 10.0
PROOF_LIMIT_BYTES = 1024


class BadRemote(UsageError):
    """The text cannot be the address of a server."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server, and the user as whom it is asked.

    url  scheme, host, port and the path that everything lies under; without credentials
    key  None: the request carries no credentials, which a server may allow
    """

    url: SplitResult
    user: str
    key: str | None

    def path(self, *segments: str) -> str:
        """The path of a request for `/segment/segment/...`."""
        return self.url.path.rstrip("/") + "".join(f"/{quote(segment, safe='')}" for segment in segments)

    @property
    def headers(self) -> dict[str, str]:
        if self.key is None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{self.user}:{self.key}".encode()).decode()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that every client takes."""
    parser.add_argument(
        "--url", help=f"address of the server [SLUICE_URL, else http://127.0.0.1:PORT with SLUICE_PORT, default {DEFAULT_PORT}]"
    )
    parser.add_argument("--user", help=f"name of the user who asks [SLUICE_USER, default {ADMIN}]")
    parser.add_argument(
        "--key",
        help="key of that user [SLUICE_KEY; by default the admin's key is read from the data directory on the server's machine]",
    )


def find_remote(options: argparse.Namespace, environment: Mapping[str, str]) -> Remote:
    """The server and the user that the flags and the environment name. BadRemote."""

    def given(name: str) -> str:
        flag: str | None = getattr(options, name)
        return (environment.get(f"SLUICE_{name.upper()}", "") if flag is None else flag).strip()

    url = find_url(options.url, environment)
    user = given("user") or ADMIN
    key = given("key")
    if not key and user == ADMIN and _is_this_machine(url):
        key = _admin_key(url, Path(environment.get("SLUICE_DATA_DIR", "").strip() or "data"))
    return Remote(url, user, key or None)


def find_url(flag: str | None, environment: Mapping[str, str]) -> SplitResult:
    """The address of the server: the flag, else SLUICE_URL, else the port on this machine that the server itself would take."""
    text = (environment.get("SLUICE_URL", "") if flag is None else flag).strip()
    return _url(text or f"http://127.0.0.1:{_port(environment)}")


def _port(environment: Mapping[str, str]) -> str:
    text = environment.get("SLUICE_PORT", "").strip() or DEFAULT_PORT
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise BadRemote(f"SLUICE_PORT={text} does not say where the server listens: name its address with --url")
    return text


def _url(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise BadRemote(f"{text} is not an address: {error}") from None
    if url.scheme not in ("http", "https") or not host or not text.isascii() or " " in text:
        raise BadRemote(f"{text} is not an address: write http://HOST:PORT")
    bracketed = f"[{host}]" if ":" in host else host
    return url._replace(netloc=bracketed if port is None else f"{bracketed}:{port}", query="", fragment="")


def _is_this_machine(url: SplitResult) -> bool:
    """Only a server on this machine gets the admin's key when nobody gave the key explicitly."""
    try:
        return url.hostname == "localhost" or ip_address(url.hostname or "").is_loopback
    except ValueError:
        return False


def _admin_key(url: SplitResult, data_dir: Path) -> str:
    """The key in the data directory, for the server that owns the directory; any other that listens there does not get it."""
    try:
        key = (data_dir / "admin.key").read_text().strip()
    except OSError:  # no server has run here, or we may not read its key
        return ""
    try:
        if _is_proven(url, key):
            return key
    except OSError:  # nobody listens there, as the request itself will find out
        return ""
    except (http.client.HTTPException, ValueError, LookupError, TypeError):
        pass  # it does not know the question
    reason = f"the server at {url.geturl()} does not show that {data_dir} is its data directory"
    print(f"{reason}, so it does not get the admin's key; name a key with --key or SLUICE_KEY", file=sys.stderr)
    return ""


def _is_proven(url: SplitResult, key: str) -> bool:
    """Whether the server can say of a fresh nonce what only a server with this key can say. Raises what the network raises."""
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    nonce = secrets.token_hex(16)
    with contextlib.closing(kind(url.netloc, timeout=PROOF_TIMEOUT_S)) as connection:
        connection.request("GET", f"{url.path.rstrip('/')}/api/proof?nonce={nonce}")
        given = json.loads(connection.getresponse().read(PROOF_LIMIT_BYTES))["proof"]
    message = f"sluice {nonce} {connection.port}".encode()
    return hmac.compare_digest(given, hmac.new(hashlib.sha256(key.encode()).digest(), message, hashlib.sha256).hexdigest())
