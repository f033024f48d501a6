"""Pages of rows over HTTP: `/v2/rows`, and what a model says of each row."""

from aiohttp import web

from engine.accounts import OWNER_NAME
from engine.errors import INVALID_REQUEST, Code, EngineError, Kind, model_not_found, no_credentials
from engine.preview.answers import Ready
from engine.preview.pages import Page, PagePlace
from engine.repository.index import MODEL_NAME, Version
from handlers.http.keys import REPOSITORY
from handlers.http.routes import Parameter, Route, whole
from handlers.preview.admission import KEY, SURFACE, base_of, in_time, named_split, parameter, visible
from handlers.preview.answers import data_answer
from handlers.preview.keys import CALLER, PAGES
from handlers.preview.shapes import PageAnswer

PREDICTION_TIMEOUT = Code("prediction_timeout", Kind.EXPIRED, "the model gave no answer for all rows of the page within 30 s")

MAX_LENGTH = 100
MAX_DIGITS = 15


def is_page(request: web.Request) -> bool:
    """Whether a request for `/rows` asks for a page."""
    return bool(request.query.get("offset") or request.query.get("length"))


async def show_page(request: web.Request) -> web.Response:
    """Rows from any place of a split.

    What is wrong with a request is said before it is looked at whether the caller may see the dataset: otherwise it would be said
    of names that nobody has, and not of those that are hidden.
    """
    name, config, split = await named_split(request)
    offset = _number(request, "offset", 0, 0, None)
    length = _number(request, "length", MAX_LENGTH, 1, MAX_LENGTH)
    version = _version(request)
    caller = request.get(CALLER)
    name = await visible(request, caller, name)
    place = PagePlace(name, config, split, offset, length, caller.name if caller else "")
    base = base_of(request)
    if version is not None:
        page = await _predicted(request, place, base, version)
        return await data_answer(request, name, _ready(page), is_kept=False)
    page = await in_time(request, name, lambda: request.app[PAGES].page(place, base))
    return await data_answer(request, name, _ready(page))


async def _predicted(request: web.Request, place: PagePlace, base: bytes, version: Version) -> Page:
    """The page with predictions. EngineError `prediction_timeout`."""
    pages = request.app[PAGES]
    try:
        return await in_time(request, place.dataset, lambda: pages.predicted(place, base, version))
    except TimeoutError:
        raise EngineError(PREDICTION_TIMEOUT, "The model gave no answer in time.") from None


def _version(request: web.Request) -> Version | None:
    """The version, answering now, of the model of `predict`; None without `predict`.

    raises  EngineError `no_credentials`, `model_not_found`, and others of models
    """
    model = parameter(request, "predict")
    if model is None:
        return None
    caller = request.get(CALLER)
    if caller is None:
        raise no_credentials()
    owner, _, name = model.partition("/")
    if not OWNER_NAME.fullmatch(owner) or not MODEL_NAME.fullmatch(name):
        raise model_not_found()
    return request.app[REPOSITORY].access(caller, owner, name)


def _ready(page: Page) -> Ready:
    return Ready(page.body, b"", page.etag, page.revision, page.is_stale, page.is_whole, page.fault, page.truncated)


def _number(request: web.Request, name: str, default: int, least: int, most: int | None) -> int:
    """EngineError `invalid_request` for what is no whole number in the range."""
    text = parameter(request, name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else -1
    if number < least or (most is not None and number > most):
        until = f" to {most}" if most else ""
        raise EngineError(INVALID_REQUEST, f"Parameter '{name}' must be a whole number from {least}{until}")
    return number


# Parameters of several routes
OFFSET: dict[str, str | Parameter] = {"offset": whole("number of the first row, from 0")}
LENGTH: dict[str, str | Parameter] = {"length": whole(f"1 to {MAX_LENGTH} rows", 1, MAX_LENGTH)}
WAIT: dict[str, str | Parameter] = {
    "wait": Parameter("seconds, up to 30, to wait while it is being processed", {"type": "number", "minimum": 0})
}

ROUTES = (
    Route(
        method="GET",
        path="/v2/rows",
        handler=show_page,
        surface=SURFACE,
        summary="Rows from any place of a split",
        key=KEY,
        answers={
            200: "the rows; none beyond the end",
            304: "the client has them already",
            400: "a parameter is missing, or the rows cannot be read",
            401: "the credentials are wrong, or `predict` came without any",
            404: "there is no such dataset, split or model, or it is being processed",
            422: "offset or length is not a number in its range",
            504: "the model did not answer in 30 s",
        },
        reply=PageAnswer,
        query={
            "dataset": "`name` or `org/name`",
            "config": "the config",
            "split": "the split",
            **OFFSET,
            **LENGTH,
            "predict": "owner/model: what this model says of each row",
            **WAIT,
        },
    ),
)
