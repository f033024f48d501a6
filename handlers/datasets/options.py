"""The options of an upload: what its query says of types, vectors, words and bad lines. Knows no body."""

import difflib
import re
from collections.abc import Iterator, Sequence

from aiohttp import web

from engine.accounts import Caller
from engine.datasets.names import PART_NAME, shown
from engine.datasets.versions import DEFAULT_SPLIT
from engine.errors import INVALID_PARAMETER, DetailedError, EngineError
from engine.ingestion import Embedder, EmbedPair, UploadOptions
from handlers.http.parameters import TRUE
from handlers.http.routes import Parameter, one_word, several

SCALAR = "bool|int64|float64|string|bytes|timestamp|date|json"
TYPE = re.compile(rf"{SCALAR}|vector\([1-9][0-9]{{0,4}}\)|list<(?:{SCALAR})>")
MAX_COLUMN_BYTES = 200
MAX_EMBED = 16
ON_ERROR = ("stop", "skip")

QUERY: dict[str, str | Parameter] = {
    "embed": several("source:column, a new vector column and the text column that it is computed from; may be given several times"),
    "model": "the embedding model; without it the first one listed",
    "words": several("a text column that gets a word index; may be given several times"),
    "types": "column:type, separated by commas, such as label:int64,when:timestamp,emb:vector(384)",
    "class_labels": "text columns whose values become class labels, separated by commas",
    "on_error": one_word("stop: the first bad line refuses the upload (the default); skip: bad lines are left out", ON_ERROR),
    "split": "the split that the rows belong to; train by default",
}


def check_known(request: web.Request, *known: str) -> None:
    """Refuse a parameter that does nothing here. EngineError `invalid_parameter`, with the nearest name as a hint."""
    for name in request.query:
        if name not in known:
            raise DetailedError(INVALID_PARAMETER, f'Unknown parameter "{shown(name)}".', nearest(name, known))


def nearest(name: str, known: Sequence[str]) -> dict[str, str]:
    """The hint that names a known word close to this one, if there is one."""
    near = difflib.get_close_matches(name, known, n=1)
    return {"hint": f'Did you mean "{near[0]}"?'} if near else {}


def is_true(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in TRUE


def parse(request: web.Request, embedder: Embedder, caller: Caller) -> UploadOptions:
    """The options of an upload. EngineError `invalid_parameter`, `model_not_found`."""
    split = _only(request, "split", DEFAULT_SPLIT)
    if not PART_NAME.fullmatch(split):
        raise _wrong("split", "1 to 96 letters, digits, . _ and -")
    on_error = _only(request, "on_error", "stop")
    if on_error not in ON_ERROR:
        raise _wrong("on_error", "stop or skip")
    return UploadOptions(
        types=_types(request),
        class_labels=tuple(_column(one, "class_labels") for one in _listed(request, "class_labels")),
        words=tuple(_column(one, "words") for one in request.query.getall("words", [])),
        embed=tuple(_embed(request, embedder, caller)),
        skips=on_error == "skip",
        split=split,
    )


def _only(request: web.Request, name: str, default: str) -> str:
    """A parameter that may be given once. EngineError `invalid_parameter`."""
    given = request.query.getall(name, [])
    if len(given) > 1:
        raise _wrong(name, "given once")
    return given[0] if given else default


def _listed(request: web.Request, name: str) -> list[str]:
    """The parts between commas of a parameter that may be given several times."""
    return [part for text in request.query.getall(name, []) for part in text.split(",")]


def _types(request: web.Request) -> dict[str, str]:
    types: dict[str, str] = {}
    for pair in _listed(request, "types"):
        name, _, kind = pair.rpartition(":")
        if not TYPE.fullmatch(kind):
            raise _wrong("types", f"pairs of a column and a type, such as label:int64, not {shown(pair)}")
        if _column(name, "types") in types:
            raise _wrong("types", f"pairs of different columns: {shown(name)} comes twice")
        types[name] = kind
    return types


def _embed(request: web.Request, embedder: Embedder, caller: Caller) -> Iterator[EmbedPair]:
    """The vector columns to compute, all with the same model."""
    given = request.query.getall("embed", [])
    name = _only(request, "model", "") or None
    if not given:
        if name is not None:
            raise _wrong("model", "given together with embed")
        return
    if len(given) > MAX_EMBED:
        raise _wrong("embed", f"given at most {MAX_EMBED} times")
    model = embedder.find_model(caller, name)
    for pair in given:
        source, _, column = pair.partition(":")
        yield EmbedPair(_column(source, "embed"), _column(column, "embed"), model)


def _column(name: str, parameter: str) -> str:
    """A name that a column may have. EngineError `invalid_parameter`."""
    if not 1 <= len(name.encode(errors="replace")) <= MAX_COLUMN_BYTES or "\0" in name:
        raise _wrong(parameter, f"made of names of columns, which have 1 to {MAX_COLUMN_BYTES} bytes")
    return name


def _wrong(parameter: str, wanted: str) -> EngineError:
    return EngineError(INVALID_PARAMETER, f"{parameter} must be {wanted}.")
