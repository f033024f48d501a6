"""The model repository over HTTP: which models the caller may use, and how they are.

Knows the shapes of the listings. Which models there are and who may use them is engine/repository.py; how they are is the engine.
"""

from typing import Any

from aiohttp import web

from engine.repository.index import Model
from handlers.http.auth import known_caller
from handlers.http.errors import json_response
from handlers.http.keys import ENGINE, REPOSITORY
from handlers.http.routes import Route


async def list_models(request: web.Request) -> web.Response:
    """The caller's own models and the shared ones, by owner and name."""
    caller = await known_caller(request)
    models = request.app[REPOSITORY].visible(caller)
    return json_response({"models": [_summary(request, model) for model in models]})


async def show_model(request: web.Request) -> web.Response:
    """One record of the list, with what it takes and gives."""
    return json_response(model_record(request, await _model(request)))


def model_record(request: web.Request, model: Model) -> dict[str, Any]:
    """The whole record of one model."""
    return _summary(request, model) | _details(model)


async def check_model(request: web.Request) -> web.Response:
    """The state of a model in the words of ScienceOps."""
    model = await _model(request)
    status = _status(request, model)
    answer = {
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


def _summary(request: web.Request, model: Model) -> dict[str, Any]:
    """One record of the list; task null when config.json cannot be read."""
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
    """Inputs and outputs as config.json has them; nulls when it cannot be read."""
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


def _status(request: web.Request, model: Model) -> str:
    """online, building or offline; of the active version."""
    return request.app[ENGINE].models.status(model.active) if model.active else "offline"


REFUSALS = {401: "no credentials, or wrong ones", 403: "a read-only key on another's model", 404: "no such model"}

ROUTES = [
    Route(
        "GET",
        "/api/models",
        list_models,
        "Models this caller may use",
        answers={200: "models, by owner and name", 401: REFUSALS[401]},
    ),
    Route(
        "GET",
        "/api/models/{owner}/{model}",
        show_model,
        "One model, with inputs, outputs, example and versions",
        answers={200: "the model"} | REFUSALS,
    ),
    Route(
        "GET",
        "/api/models/{owner}/{model}/check",
        check_model,
        "State of one model",
        answers={200: "versions and status"} | REFUSALS,
    ),
]
