"""Schemas in the document: those that pydantic makes of the types of bodies and answers, and those of refusals, written here."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from handlers.http.bodies import NDJSON
from handlers.http.forms import FORM
from handlers.http.routes import FormBody

Json = dict[str, Any]

JSON = "application/json"
SCHEMAS = "#/components/schemas/"
LINES_EXAMPLE = '{"name":"jim"}\n{"name":"bob"}\n{"name":"sarah"}\n'

TEXT: Json = {"type": "string"}
FILE: Json = {"type": "string", "format": "binary"}


def _refusal(description: str, required: Sequence[str], properties: Json) -> Json:
    return {"type": "object", "description": description, "required": list(required), "properties": properties}


# What surfaces name as the shape of their refusals (`Surface.schema`), and lines.
WRITTEN: Json = {
    "Error": _refusal(
        "`error` says what was wrong. The other properties are there when a record was refused, and `code` also for a few others.",
        ["error"],
        {
            "error": TEXT,
            "code": TEXT,
            "yhat_id": {"anyOf": [TEXT, {"type": "number"}]},
            "yhat_model": TEXT,
        },
    ),
    "CodedError": _refusal(
        "`message` says what was wrong, `code` is for programs. Some have `position` (in the text of a query), `hint`, `line` or "
        "`column`.",
        ["message", "code"],
        {
            "message": TEXT,
            "code": TEXT,
            "position": {"type": "object", "properties": {key: {"type": "integer"} for key in ("offset", "line", "column")}},
            "hint": TEXT,
            "line": {"type": "integer"},
            "column": TEXT,
        },
    ),
    "DetailError": _refusal(
        "A refusal in the shape of FastAPI: a list of faults when the body is wrong (422), else one sentence.",
        ["detail"],
        {"detail": {"anyOf": [TEXT, {"type": "array", "items": {"type": "object"}}]}},
    ),
    "OpenAIError": _refusal(
        "A refusal in the shape that OpenAI's clients expect.",
        ["error"],
        {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {"message": TEXT, "type": TEXT} | {key: {"type": ["string", "null"]} for key in ("param", "code")},
            }
        },
    ),
    "TypedError": _refusal(
        "A refusal in the shape of Text Embeddings Inference.",
        ["error", "error_type"],
        {"error": TEXT, "error_type": TEXT},
    ),
    "SixKeysError": _refusal(
        "`message` says what was wrong, and the keys that begin with `cause` what was behind it.",
        ["status_code", "exception", "message", "cause_exception", "cause_message", "cause_traceback"],
        {
            "status_code": {"type": "integer"},
            **{key: TEXT for key in ("exception", "message", "cause_exception", "cause_message")},
            "cause_traceback": {"type": "array", "items": TEXT},
        },
    ),
    "ListedError": _refusal(
        "`Details` lists the faults, at most 100 of them; `DetailsTotal` says how many there are.",
        ["Error"],
        {
            "Error": {
                "type": "object",
                "required": ["Code", "Message", "Details", "DetailsTotal"],
                "properties": {
                    "Code": TEXT,
                    "Message": TEXT,
                    "Details": {"type": "array", "items": {"type": "object"}},
                    "DetailsTotal": {"type": "integer"},
                },
            }
        },
    ),
    "Lines": {
        "type": "string",
        "description": "Newline-delimited JSON: one object per line. Each line of an answer has `result`, or `code` and `error`.",
    },
}


class _WithoutTitles(GenerateJsonSchema):
    """A title would say the name of each field and of each class once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Schemas:
    """The schemas of some types.

    components  those that have a name: the types' own, those of what the types contain, and the written ones
    """

    def __init__(self, types: Iterable[Any]) -> None:
        adapters: list[tuple[Any, Literal["validation"], TypeAdapter[Any]]] = [
            (kind, "validation", TypeAdapter(kind)) for kind in dict.fromkeys(types)
        ]
        made, named = TypeAdapter.json_schemas(adapters, ref_template=SCHEMAS + "{model}", schema_generator=_WithoutTitles)
        self._made: Mapping[Any, Json] = made
        described = named.get("$defs", {})
        self.components: Json = WRITTEN | {name: _untitled(schema) for name, schema in sorted(described.items())}

    def content(self, kind: object) -> Json:
        """The content of a body or an answer of one kind: media type -> what stands there."""
        if isinstance(kind, FormBody):
            return {FORM: {"schema": _form(kind)}}
        if not isinstance(kind, str):
            return {JSON: {"schema": self._made[kind, "validation"]}}
        if kind == NDJSON:
            return {NDJSON: {"schema": refer("Lines"), "example": LINES_EXAMPLE}}
        return {kind: {"schema": TEXT if kind.startswith("text/") else FILE}}


def _form(form: FormBody) -> Json:
    """The schema of a form: an object whose properties are its parts."""
    parts = {name: FILE | {"description": text} for name, text in form.parts.items()}
    parts |= {name: {"type": "array", "items": FILE, "description": form.parts[name]} for name in form.many}
    return {"type": "object", "required": list(form.needed), "properties": parts, "additionalProperties": False}


def refer(name: str) -> Json:
    """A reference to a schema that has a name."""
    return {"$ref": SCHEMAS + name}


def _untitled(schema: Json) -> Json:
    return {key: value for key, value in schema.items() if key != "title"}
