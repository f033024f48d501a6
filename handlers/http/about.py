"""What the server says of itself: its version, and the address under which a client reaches it."""

import re
from importlib import metadata

from aiohttp import hdrs, web

from handlers.http.keys import PUBLIC_URL

# What may stand in an address: a name, or an address of four or six bytes, and a port.
HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


def version() -> str:
    """The version of the installed package; a checkout that was never installed has none."""
    try:
        return metadata.version("sluice")
    except metadata.PackageNotFoundError:
        return "0"


def address(request: web.Request) -> str:
    """The address of this server as clients know it, without a final slash; empty where the request names no proper host."""
    url = request.app[PUBLIC_URL]
    if url is None:
        host = request.headers.get(hdrs.HOST) or request.host
        url = f"{request.scheme}://{host}" if HOST.fullmatch(host) else ""
    return url.rstrip("/")
