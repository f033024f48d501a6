"""Plots over HTTP: models and attributions as pictures, which a browser shows and keeps for its user alone."""

from aiohttp import hdrs, web

from engine.projects.attributions import KIND as ATTRIBUTION
from engine.projects.plots import ATTRIBUTION_KINDS, LARGEST, MODEL_KINDS, SMALLEST, Picture, Plots
from engine.projects.publishing import KIND as MODEL
from engine.roles import Role
from handlers.http.routes import Handler, Route, one_word, whole
from handlers.projects.admission import admit, key_of, needs
from handlers.projects.answers import iid_of
from handlers.projects.attributions import CALLS as ATTRIBUTION_CALLS
from handlers.projects.errors import SURFACE
from handlers.projects.models import CALLS as MODEL_CALLS
from handlers.projects.parameters import number, one_of
from handlers.projects.projects import REFUSALS

PLOTS = web.AppKey("project_plots", Plots)
SVG = "image/svg+xml"
DEFAULT_WIDTH, DEFAULT_HEIGHT = 960, 480


async def plot_model(request: web.Request) -> web.Response:
    """A picture of a model."""
    project = await admit(request, Role.OBSERVER)
    picture = _picture(request, MODEL_KINDS)
    return _shown(request, *await request.app[PLOTS].of_model(project, iid_of(request, MODEL), picture))


async def plot_attribution(request: web.Request) -> web.Response:
    """A picture of an attribution."""
    project = await admit(request, Role.OBSERVER)
    picture = _picture(request, ATTRIBUTION_KINDS)
    return _shown(request, *await request.app[PLOTS].of_attribution(project, iid_of(request, ATTRIBUTION), picture))


def _picture(request: web.Request, kinds: tuple[str, ...]) -> Picture:
    """What the query asks for. EngineError `bad_field`."""
    return Picture(
        one_of(request, "kind", kinds),
        number(request, "width", DEFAULT_WIDTH, least=SMALLEST, most=LARGEST),
        number(request, "height", DEFAULT_HEIGHT, least=SMALLEST, most=LARGEST),
    )


def _shown(request: web.Request, svg: bytes, etag: str) -> web.Response:
    headers = {hdrs.ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private"}
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=svg, content_type=SVG, headers=headers)


# Routes


def _route(path: str, handler: Handler, kinds: tuple[str, ...], what: str) -> Route:
    sizes = f"pixels, {SMALLEST} to {LARGEST}"
    return Route(
        method="GET",
        path=path + "/plot",
        handler=handler,
        surface=SURFACE,
        summary=f"a picture of {what}, as SVG",
        key=key_of(Role.OBSERVER),
        query={
            "kind": one_word(" or ".join((", ".join(kinds[:-1]), kinds[-1])), kinds),
            "width": whole(f"{sizes}; {DEFAULT_WIDTH} without it", SMALLEST, LARGEST),
            "height": whole(f"{sizes}; {DEFAULT_HEIGHT} without it", SMALLEST, LARGEST),
        },
        answers={200: "SVG", 304: "the picture has not changed", 409: f"{what} is not complete", 422: "a parameter is wrong"}
        | REFUSALS,
        reply=SVG,
        admit=needs(Role.OBSERVER),
    )


ROUTES = (
    _route(MODEL_CALLS.one_path, plot_model, MODEL_KINDS, "a model"),
    _route(ATTRIBUTION_CALLS.one_path, plot_attribution, ATTRIBUTION_KINDS, "an attribution"),
)
