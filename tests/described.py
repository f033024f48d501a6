"""The document of all routes, with which tests compare what a server answers."""

import re
from functools import cache
from typing import Any

import requests
from jsonschema import Draft202012Validator

from handlers.openapi.document import document
from server.app import ROUTES


@cache
def described() -> dict[str, Any]:
    """The document, as the server makes it."""
    return document(ROUTES)


@cache
def _paths() -> dict[str, str]:
    """The paths of the document, by the same paths with `{}` for each parameter."""
    return {re.sub(r"\{\w+\}", "{}", path): path for path in described()["paths"]}


@cache
def _validator(path: str, method: str, status: int, media_type: str) -> Draft202012Validator | None:
    """What checks such an answer; None for one that is not described."""
    responses = described()["paths"][path][method.lower()]["responses"]
    content = responses.get(str(status), {}).get("content", {})
    if media_type not in content:
        return None
    return Draft202012Validator({**content[media_type]["schema"], "components": described()["components"]})


def fault(answer: requests.Response, method: str, path: str) -> str | None:
    """What of an answer is not as the document says; None if nothing is.

    path  as the document has it, or with `{}` for each parameter
    """
    path = _paths().get(re.sub(r"\{\w+\}", "{}", path), path)
    where = f"{method} {path} {answer.status_code}"
    if str(answer.status_code) not in described()["paths"][path][method.lower()]["responses"]:
        return f"{where} is not described"
    if not answer.content:
        return None
    media_type = answer.headers["Content-Type"].partition(";")[0]
    validator = _validator(path, method, answer.status_code, media_type)
    if validator is None:
        return f"{where} with {media_type} is not described"
    if media_type != "application/json":
        return None
    error = next(iter(validator.iter_errors(answer.json())), None)
    return error and f"{where} {'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
