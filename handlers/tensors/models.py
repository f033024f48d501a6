"""What there is, in the words of the Open Inference Protocol: the server, its health, and the tensors of a model."""

from dataclasses import replace

from aiohttp import web
from typing_extensions import TypedDict

from handlers.http.about import version
from handlers.http.errors import dumps, json_response
from handlers.http.keys import ENGINE, REPOSITORY
from handlers.http.models import USE_KEY
from handlers.http.routes import Handler, Route
from handlers.tensors.admission import PATH, REFUSALS, SURFACE, TENSORS, VERSION_PATH, asked

EXTENSIONS = ["binary_tensor_data"]
PLATFORM = "onnxruntime_onnx"


async def server(request: web.Request) -> web.Response:
    """The name and version of the server, and what it knows beyond the protocol."""
    return json_response({"name": "sluice", "version": version(), "extensions": EXTENSIONS}, sort_keys=False)


async def live(request: web.Request) -> web.Response:
    """The server answers."""
    return json_response({"live": True})


async def ready(request: web.Request) -> web.Response:
    """Whether a replica can run models; from memory, so that it answers while everything else is busy."""
    is_ready = request.app[ENGINE].health == "ok"
    return json_response({"ready": is_ready}, status=200 if is_ready else 503, headers={"Cache-Control": "no-store"})


async def model(request: web.Request) -> web.Response:
    """The tensors that a model takes and gives. A replica knows them."""
    found = (await asked(request)).version
    tensors = await request.app[TENSORS].describe(found)
    kept = request.app[REPOSITORY].find(found.config.owner, found.config.name)
    told = {"name": found.title, "versions": [str(number) for number in kept.numbers] if kept else [], "platform": PLATFORM}
    body = dumps(told, sort_keys=False)[:-1] + b"," + tensors[1:]
    return web.Response(body=body, content_type="application/json")


async def model_ready(request: web.Request) -> web.Response:
    """A real heartbeat: a replica that has the model open says so."""
    found = (await asked(request)).version
    is_ready = await request.app[TENSORS].is_ready(found)
    return json_response({"name": found.title, "ready": is_ready}, status=200 if is_ready else 503, sort_keys=False)


# Routes


class ServerAnswer(TypedDict):
    """The server: its name and version, and what it knows beyond the protocol."""

    name: str
    version: str
    extensions: list[str]


class LiveAnswer(TypedDict):
    """Whether the server answers."""

    live: bool


class ReadyAnswer(TypedDict):
    """Whether a replica can run models."""

    ready: bool


class ModelReadyAnswer(TypedDict):
    """Whether a replica has the model open."""

    name: str
    ready: bool


class TensorForm(TypedDict):
    """A tensor of a model; -1 in its shape is any length, and the first length counts the records."""

    name: str
    datatype: str
    shape: list[int]


class ModelAnswer(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorForm]
    outputs: list[TensorForm]


def _open(path: str, handler: Handler, summary: str, answers: dict[int, str], reply: object) -> Route:
    get = Route(method="GET", path=path, handler=handler, surface=SURFACE, summary=summary, key="none", answers=answers)
    return replace(get, reply=reply, replies={503: reply} if 503 in answers else {})


MODEL = Route(
    method="GET",
    path=PATH,
    handler=model,
    surface=SURFACE,
    summary="The tensors that a model takes and gives",
    key=USE_KEY,
    answers={200: "name, versions, inputs and outputs"} | REFUSALS,
    reply=ModelAnswer,
)
READY = replace(
    MODEL,
    path=PATH + "/ready",
    handler=model_ready,
    summary="Whether a replica has the model open, after a heartbeat of it",
    answers={200: "one has"} | REFUSALS | {503: "none has"},
    reply=ModelReadyAnswer,
    replies={503: ModelReadyAnswer},
)
OF_VERSION = "The same for one version"

ROUTES = (
    _open("/v2", server, "The server, in the Open Inference Protocol", {200: "name, version and extensions"}, ServerAnswer),
    _open("/v2/health/live", live, "Whether the server answers", {200: "it does"}, LiveAnswer),
    _open("/v2/health/ready", ready, "Whether a replica can run models", {200: "one can", 503: "none can"}, ReadyAnswer),
    MODEL,
    replace(MODEL, path=VERSION_PATH, summary=OF_VERSION),
    READY,
    replace(READY, path=VERSION_PATH + "/ready", summary=OF_VERSION),
)
