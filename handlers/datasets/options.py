"""The options of an upload: what its query says of types, vectors, words and bad lines. Knows no body."""

import difflib
import re

from aiohttp import web

from engine.datasets.names import PART_NAME
from engine.errors import INVALID_PARAMETER, DetailedError, EngineError
from engine.ingestion import EmbedPair, Ingestion, UploadOptions
from handlers.http.parameters import TRUE

SCALAR = "bool|int64|float64|string|bytes|timestamp|date|json"
TYPE = re.compile(rf"{SCALAR}|vector\([1-9][0-9]{{0,4}}\)|list<(?:{SCALAR})>")
MAX_COLUMN_BYTES = 200
MAX_EMBED = 16

QUERY = {
    "embed": "source:column, a new vector column and the text column that it is computed from; may be given several times",
    "model": "the embedding model; without it the first one listed",
    "words": "a text column that gets a word index; may be given several times",
    "types": "column:type, separated by commas, such as label:int64,when:timestamp,emb:vector(384)",
    "class_labels": "text columns whose values become class labels, separated by commas",
    "on_error": "stop: the first bad line refuses the upload (the default); skip: bad lines are left out",
    "split": "the split that the rows belong to; train by default",
}


def check_known(request: web.Request, *known: str) -> None:
    """Refuse a parameter that does nothing here. EngineError `invalid_parameter`, with the nearest name as a hint."""
    for name in request.query:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            details = {"hint": f'Did you mean "{near[0]}"?'} if near else {}
            raise DetailedError(INVALID_PARAMETER, f'Unknown parameter "{name[:80]}".', details)


def is_true(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in TRUE


def parse(request: web.Request, ingestion: Ingestion, pick: "ModelPick") -> UploadOptions:
    """The options of an upload. EngineError `invalid_parameter`, `model_not_found`."""
    on_error = request.query.get("on_error", "stop")
    if on_error not in ("stop", "skip"):
        raise _wrong("on_error", "stop or skip")
    split = request.query.get("split", "train")
    if not PART_NAME.fullmatch(split):
        raise _wrong("split", "1 to 96 letters, digits, . _ and -")
    return UploadOptions(
        types=dict(_typed(one) for one in _listed(request, "types")),
        class_labels=tuple(_column(one, "class_labels") for one in _listed(request, "class_labels")),
        words=tuple(_column(one, "words") for one in request.query.getall("words", [])),
        embed=_embed(request, pick),
        skips=on_error == "skip",
        split=split,
    )
