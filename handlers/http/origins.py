"""Origins: which page in a browser may ask this server, and under which names the server is reached.

A browser attaches the credentials that a person typed to every request for the same server, whichever page makes the request. So
a request that changes something, or opens a WebSocket, is refused when the page of another origin makes it. Programs send neither
`Origin` nor `Sec-Fetch-Site` and are not concerned. Knows nothing of credentials.
"""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import istr

from engine.errors import Code, EngineError, Kind
from handlers.http.routes import ROUTE_TABLE

FOREIGN_ORIGIN = Code("foreign_origin", Kind.FORBIDDEN, "a page of another origin may not ask this; see SLUICE_CORS_ORIGINS")
FOREIGN_HOST = Code("foreign_host", Kind.FORBIDDEN, "SLUICE_HOSTS does not list the name in the header Host")

ANY_ORIGIN = "*"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FETCH_SITE = istr("Sec-Fetch-Site")
TYPE_OPTIONS = istr("X-Content-Type-Options")
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
DEFAULT_PORTS = {"http": 80, "https": 443}
# A browser may keep the answer to a preflight this long.
PREFLIGHT_AGE_S = 3600
EXPOSED = "Retry-After, X-Request-Id, X-Truncated, X-Queue-Time, X-Tokenization-Time, X-Inference-Time, X-Total-Time"


@dataclass(frozen=True, slots=True)
class OriginLimits:
    """Who may ask from a browser. Settings of server/config.py, by the same names."""

    host: str
    hosts: frozenset[str]
    cors_origins: frozenset[str]


class Origins:
    """Checks each request before its handler, and marks each answer."""

    def __init__(self, limits: OriginLimits) -> None:
        self._hosts = limits.hosts
        self._own_names = limits.hosts | {"localhost", limits.host.lower()}
        self._allowed = limits.cors_origins
        self._is_local = _is_loopback(limits.host)

    def admit(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that only asks whether it may ask; None for a request that may go on to its handler.

        raises  EngineError `foreign_host`, `foreign_origin`
        """
        headers = request.headers
        if self._hosts and not self._is_own_name(_split(f"//{headers.get(hdrs.HOST, '')}")[1]):
            raise EngineError(FOREIGN_HOST, "the server is not reached under this name; SLUICE_HOSTS lists its names")
        if hdrs.ORIGIN not in headers and FETCH_SITE not in headers:
            return None  # not a browser, or a plain GET of its own page
        self._check_origin(request)
        return self._preflight(request)

    def _check_origin(self, request: web.Request) -> None:
        headers = request.headers
        if request.method in SAFE_METHODS and hdrs.UPGRADE not in headers:
            return  # it changes nothing, and the browser shows the answer to no page of another origin
        if not self._is_own_page(request) and not self._is_allowed(request):
            names = "SLUICE_HOSTS lists the names of the server, SLUICE_CORS_ORIGINS the origins that may embed"
            raise EngineError(FOREIGN_ORIGIN, f"a page of another origin may not ask this; {names}")

    def _preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether a page of an allowed origin may send a request; None for other requests."""
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
        if wanted is None or request.method != hdrs.METH_OPTIONS or not self._is_allowed(request):
            return None
        headers = {
            hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, HEAD, POST",
            hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_AGE_S),
        }
        if asked := request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS):
            headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked  # OpenAI's clients send a dozen of their own
        return web.Response(status=204, headers=headers)

    async def mark(self, request: web.Request, response: web.StreamResponse) -> None:
        """Called before each answer is sent. No browser may guess a type; a page of an allowed origin may read the answer."""
        response.headers[TYPE_OPTIONS] = "nosniff"
        if self._allowed and request.app[ROUTE_TABLE].surface_of(request).is_open_to_pages:
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)  # a cache must not give the answer for one origin to another
            if self._is_allowed(request):
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
                response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED

    def _is_allowed(self, request: web.Request) -> bool:
        """Whether SLUICE_CORS_ORIGINS opens what is asked for to the page that asks."""
        origin = request.headers.get(hdrs.ORIGIN)
        if not self._allowed or origin is None or not (ANY_ORIGIN in self._allowed or origin.lower() in self._allowed):
            return False
        return request.app[ROUTE_TABLE].surface_of(request).is_open_to_pages

    def _is_own_page(self, request: web.Request) -> bool:
        """Whether the page that asks came from this server.

        `Sec-Fetch-Site` is the browser's own word, but browsers send it only for pages over https or from this machine. Where it is
        missing, the origin must have the host and port that the request was sent to, or a name of SLUICE_HOSTS.
        """
        site, origin = request.headers.get(FETCH_SITE), request.headers.get(hdrs.ORIGIN)
        if site in FOREIGN_SITES:
            return False
        if origin is None:
            return True
        scheme, name, port = _split(origin)
        if site != "same-origin" and name not in self._hosts:
            _, own_name, own_port = _split(f"{scheme}://{request.headers.get(hdrs.HOST, '')}")
            if not name or (name, port) != (own_name, own_port):
                return False
        return not self._may_be_rebound(scheme, name)

    def _may_be_rebound(self, scheme: str, name: str) -> bool:
        """Whether a name may be that of a stranger, who lets it point to this machine while his page is open (DNS rebinding).

        That works only where we listen on a loopback address and a page came over http: we have no certificate for his name.
        """
        return self._is_local and scheme != "https" and not self._is_own_name(name)

    def _is_own_name(self, name: str) -> bool:
        """Whether a name is ours. An address is always accepted: only names can be made to point elsewhere."""
        return name in self._own_names or name.endswith(".localhost") or _is_address(name)


ORIGINS = web.AppKey("origins", Origins)


def _split(origin: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an origin; an empty host for one that cannot be read, such as `null`."""
    try:
        parts = urlsplit(origin)
        return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "", "", None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
