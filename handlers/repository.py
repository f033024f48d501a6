"""The model repository over HTTP: which models the caller may use, how they are, and every change of a model that exists.

Knows the shapes of these answers. engine/repository/index.py knows which models there are and who may use them, serving.py beside
it knows their state, and publishing.py makes the changes.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NotRequired

from aiohttp import web
from pydantic import Field, model_validator
from typing_extensions import TypedDict

from engine.errors import model_not_found
from engine.repository.index import Model
from engine.repository.serving import LoadState
from handlers.http.auth import known_caller, require_admin
from handlers.http.bodies import Body, in_steps, json_body, send_whole
from handlers.http.errors import dumps, json_response
from handlers.http.keys import PUBLISHER, REPOSITORY, SERVING
from handlers.http.models import CHANGE_KEY, admit_change
from handlers.http.parameters import number
from handlers.http.routes import Route, Surface, whole

SURFACE = Surface(name="repository")


class ModelSummary(TypedDict):
    """One entry of the list; the task is null when config.json cannot be read."""

    active_version: int
    description: str
    latest_version: int
    name: str
    owner: str
    shared: bool
    status: LoadState
    task: Literal["predict", "embed"] | None
    versions: list[int]


class ModelList(TypedDict):
    """The models that the caller may use, by owner and name."""

    models: list[ModelSummary]


class ModelEntry(ModelSummary):
    """Everything that is told about one model: inputs and outputs as config.json describes them, nulls when it cannot be read.

    `reason` says why a model is offline that has cost too many replicas.
    """

    example: dict[str, Any] | None
    inputs: list[dict[str, Any]] | None
    max_batch_size: int | None
    outputs: list[dict[str, Any]] | None
    reason: NotRequired[str]


class ModelCheck(TypedDict):
    """The state of a model, in the words of ScienceOps."""

    ActiveVersion: int
    LatestVersion: int
    Name: str
    Online: bool
    Owner: str
    Status: LoadState


class ModelDeleted(TypedDict):
    """What was deleted: the model, or one version of it."""

    model: str
    owner: str
    status: str
    version: NotRequired[int]


class ReloadAnswer(TypedDict):
    """How many models there are."""

    models: int


# Reading


async def list_models(request: web.Request) -> web.StreamResponse:
    """The caller's own models and the shared ones, by owner and name."""
    visible = request.app[REPOSITORY].visible(await known_caller(request))
    return await send_whole(request, await in_steps(request, _list(request, visible)), {"Content-Type": "application/json"})


def _list(request: web.Request, models: Iterable[Model]) -> Iterator[bytes]:
    """The list in JSON, one part for each model. A model that is deleted before its turn has no version left, and is left out."""
    before = b'{"models":['
    for model in models:
        if model.numbers:
            yield before + dumps(_summary(request, model))
            before = b","
    yield b"]}" if before == b"," else before + b"]}"


async def show_model(request: web.Request) -> web.Response:
    """The entry of one model, with its inputs and outputs."""
    return json_response(_entry(request, await _model(request)))


async def check_model(request: web.Request) -> web.Response:
    """The state of a model, in the words of ScienceOps."""
    model = await _model(request)
    status = _status(request, model)
    answer: ModelCheck = {
        "ActiveVersion": model.active_version,
        "LatestVersion": model.latest_version,
        "Name": model.name,
        "Online": status == "online",
        "Owner": model.owner,
        "Status": status,
    }
    return json_response(answer)


async def _model(request: web.Request) -> Model:
    """The model of the path, if the caller may use it."""
    caller = await known_caller(request)
    return request.app[REPOSITORY].model_for(caller, request.match_info["owner"], request.match_info["model"])


def _entry(request: web.Request, model: Model) -> dict[str, Any]:
    """Everything that is told about one model."""
    return {**_summary(request, model), **_details(model), **_reason(request, model)}


def _summary(request: web.Request, model: Model) -> ModelSummary:
    """One entry of the list."""
    return {
        "active_version": model.active_version,
        "description": model.description,
        "latest_version": model.latest_version,
        "name": model.name,
        "owner": model.owner,
        "shared": model.shared,
        "status": _status(request, model),
        "task": model.active.config.task if model.active else None,
        "versions": model.numbers,
    }


def _details(model: Model) -> dict[str, Any]:
    """Inputs and outputs as config.json describes them; nulls when it cannot be read."""
    if model.active is None:
        return dict.fromkeys(("example", "inputs", "max_batch_size", "outputs"))
    config = model.active.config
    written = config.as_written()
    return {
        "example": config.example,
        "inputs": written["inputs"],
        "max_batch_size": config.max_batch_size,
        "outputs": written["outputs"],
    }


def _status(request: web.Request, model: Model) -> LoadState:
    """The state of the active version: online, building or offline."""
    return request.app[SERVING].status(model.active) if model.active else LoadState.OFFLINE


def _reason(request: web.Request, model: Model) -> dict[str, str]:
    """Why a model is offline whose active version has cost too many replicas; nothing for any other model."""
    reason = request.app[SERVING].reason(model.active) if model.active else None
    return {} if reason is None else {"reason": reason}


# Changing


class ModelChange(Body):
    """Body of PATCH: the properties to change."""

    active_version: Annotated[int, Field(ge=1)] | None = None
    shared: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "ModelChange":
        if self.active_version is None and self.shared is None:
            raise ValueError("send active_version or shared")
        return self


async def change_model(request: web.Request) -> web.Response:
    """PATCH: activate another version, or share the model or not. Answers with the entry of the model after the change."""
    path = await admit_change(request, may_be_new=False)
    change = await json_body(request, ModelChange)
    publisher = request.app[PUBLISHER]
    if change.shared is not None:
        publisher.check_shareable(path.owner, path.name)  # refuse before anything is changed
    if change.active_version is not None:
        await publisher.activate(path.owner, path.name, change.active_version)
    if change.shared is not None:
        await publisher.share(path.owner, path.name, change.shared)
    model = request.app[REPOSITORY].changeable(await known_caller(request), path.owner, path.name)
    if model is None:
        raise model_not_found()
    return json_response(_entry(request, model))


async def delete_model(request: web.Request) -> web.Response:
    """DELETE: the model, or with `version=N` that version, as soon as the streams that run on it have ended."""
    path = await admit_change(request, may_be_new=False)
    answer = {"model": path.name, "owner": path.owner, "status": "Successfully deleted"}
    version = number(request, "version")
    if version is None:
        await request.app[PUBLISHER].delete(path.owner, path.name)
        return json_response(answer)
    await request.app[PUBLISHER].delete_version(path.owner, path.name, version)
    return json_response(answer | {"version": version})


async def reload(request: web.Request) -> web.Response:
    """Read the model folders and the lists of embedding models again."""
    require_admin(await known_caller(request))
    return json_response({"models": await request.app[PUBLISHER].reload()})


# Routes

REFUSALS = {
    401: "credentials are missing or wrong",
    403: "a read-only key cannot use a model of another owner",
    404: "there is no such model",
}
CHANGE_REFUSALS = {
    401: "credentials are missing or wrong",
    403: "the key is read-only, or the model belongs to another owner",
    404: "there is no such model or version",
    503: "the server is draining; see Retry-After",
    507: "the disk of the server is full",
}

ROUTES = (
    Route(
        method="POST",
        path="/api/models/reload",
        handler=reload,
        surface=SURFACE,
        summary="Read the model folders and models.txt again",
        key="admin",
        answers={200: "the number of models", 401: "credentials are missing or wrong", 403: "the caller is not the admin"},
        reply=ReloadAnswer,
        admit=known_caller,
    ),
    Route(
        method="GET",
        path="/api/models",
        handler=list_models,
        surface=SURFACE,
        summary="The models that this caller may use",
        answers={200: "the models, by owner and name", 401: REFUSALS[401]},
        reply=ModelList,
    ),
    Route(
        method="GET",
        path="/api/models/{owner}/{model}",
        handler=show_model,
        surface=SURFACE,
        summary="One model, with inputs, outputs, example and versions",
        answers={200: "the model"} | REFUSALS,
        reply=ModelEntry,
    ),
    Route(
        method="GET",
        path="/api/models/{owner}/{model}/check",
        handler=check_model,
        surface=SURFACE,
        summary="The state of one model",
        answers={200: "its versions and its status"} | REFUSALS,
        reply=ModelCheck,
    ),
    Route(
        method="PATCH",
        path="/api/models/{owner}/{model}",
        handler=change_model,
        surface=SURFACE,
        summary="Choose the active version (roll back or forward), share the model with others or not",
        key=CHANGE_KEY,
        body=ModelChange,
        answers={
            200: "the model",
            409: "the model ships with the server, and is shared as it is",
            400: "the body could not be decoded",
            413: "the body is larger than 64 KiB",
            415: "the Content-Encoding is unknown",
            422: "the body changes nothing, or has an unknown field",
            500: "the version does not load; the active version stays active",
        }
        | CHANGE_REFUSALS,
        reply=ModelEntry,
        admit=known_caller,
    ),
    Route(
        method="DELETE",
        path="/{owner}/models/{model}",
        handler=delete_model,
        surface=SURFACE,
        summary="Delete a model, or one version that is not active, after running streams have ended",
        key=CHANGE_KEY,
        answers={200: "it is deleted", 409: "the version is active, or the model ships with the server"} | CHANGE_REFUSALS,
        reply=ModelDeleted,
        query={"version": whole("delete only this version", 1)},
        admit=known_caller,
    ),
)
