"""The task `infer`: requests of the Open Inference Protocol become the tensors of their answers, or smaller requests.

The replica that gets a request reads it. It runs a short one at once. One with more rows than are worth a block, and one whose
model this replica has not opened, goes back to the server as several requests for some rows each, which it divides among all
replicas.
"""

from typing import Any, NamedTuple

import numpy as np

from engine.frames import Buffer, Header, cut
from engine.tasks import codec
from engine.tasks.families import ENDS, is_harmful
from engine.tasks.scoring.arrays import Formless
from engine.tasks.scoring.loaded import LoadedModels
from engine.tasks.scoring.model import Scorer
from engine.tasks.scoring.score import one_line
from engine.tasks.stages import Stages
from engine.tasks.tensors.datatypes import datatype_of, to_bytes
from engine.tasks.tensors.request import InferRequest, Rejected, Wanted, cut_rows, read_request, row_units, write_rows
from engine.tasks.tensors.running import outputs_of, run


class Part(NamedTuple):
    """The answer for one block: the header of its part, and its bytes."""

    header: Header
    pieces: list[bytes]


def infer(models: LoadedModels, header: Header, payload: memoryview) -> tuple[Header, list[Buffer]]:
    """Answer one frame: requests or, if the header names a `model`, rows of one. LoadFailed if that model is not open.

    header   of requests: `key` of the model, `at_once` and `most_units` (what to run here, and what a block has at most, in
             units of the model's cost), `record_bytes` (see `cut_rows`), perhaps `careful` (run nothing here); of rows: `model`
    returns  a part for each block. Of a refused one: `refused` and `message`. Of one that was run: `id`, `rows`, `units`, `stages`,
             `is_named` (the request names its outputs), and `outputs`, each with name, datatype, shape of a row, whether it is raw
             bytes, and the size of these; or with a `reason` why no tensor can hold it. Of one to be divided: `id`, `pieces` (their
             sizes) and `rows` of each
    """
    stages = Stages()
    raws = cut(payload, header["sizes"])
    parts = [_rows_part(models, header, raw, stages) if "model" in header else _request_part(models, header, raw) for raw in raws]
    for part in parts:
        part.header["size"] = sum(map(len, part.pieces))
    num_rows = sum(part.header["rows"] for part in parts if "outputs" in part.header)
    reply = {"results": num_rows, "errors": 0, **stages.report(), "parts": [part.header for part in parts]}
    return reply, [piece for part in parts for piece in part.pieces]


def _rows_part(models: LoadedModels, header: Header, raw: memoryview, stages: Stages) -> Part:
    """The answer to rows, in a block that names its model: what a run raises is the model's fault."""
    model = models.require(header["model"])
    try:
        request = read_request(raw)
        return _answer(model, request, outputs_of(request, model), stages)
    except Rejected as rejected:
        return _refused(rejected)
    except ENDS:
        raise
    except BaseException as error:  # a graph or a tokenizer may raise anything, and must cost only this request
        stages.is_harmful |= is_harmful(error)
        return _refused(Rejected("model_failed", f"the model failed: {one_line(error)}"))


def _request_part(models: LoadedModels, header: Header, raw: memoryview) -> Part:
    """The answer to a request, or its rows in pieces. A request that the model fails on is found out in blocks that name it."""
    stages = Stages()
    try:
        request = read_request(raw)
    except Rejected as rejected:
        return _refused(rejected)
    try:
        model = None if header["at_once"] < 0 or header.get("careful", False) else models.find(header["key"])
        if model is None:
            return _divided(request, header)
        outputs = outputs_of(request, model)
        units = int(row_units(request, header["record_bytes"]).sum())
        if units > header["at_once"] and request.num_rows > 1:
            return _divided(request, header)
        part = _answer(model, request, outputs, stages)
        return Part(part.header | stages.report() | {"id": request.id, "units": units}, part.pieces)
    except Rejected as rejected:
        return _refused(rejected)
    except ENDS:
        raise
    except BaseException:  # as above; there it is said who failed
        return _divided(request, header)


def _divided(request: InferRequest, header: Header) -> Part:
    cuts = cut_rows(request, header["most_units"], header["record_bytes"])
    pieces = [write_rows(request, start, end) for start, end in cuts]
    return Part({"id": request.id, "pieces": list(map(len, pieces)), "rows": [end - start for start, end in cuts]}, pieces)


def _refused(rejected: Rejected) -> Part:
    return Part({"refused": rejected.code, "message": rejected.message}, [])


def _answer(model: Scorer, request: InferRequest, outputs: list[Wanted], stages: Stages) -> Part:
    arrays = run(model, request, stages)
    pieces = [_encoded(arrays[wanted.name], wanted) for wanted in outputs]
    told = [_told(arrays[wanted.name], wanted, len(piece)) for wanted, piece in zip(outputs, pieces, strict=True)]
    stages.ended("encode")
    return Part({"rows": request.num_rows, "is_named": request.outputs is not None, "outputs": told}, pieces)


def _encoded(array: np.ndarray | Formless, wanted: Wanted) -> bytes:
    if isinstance(array, Formless):
        return b""
    return to_bytes(array) if wanted.is_binary else codec.encode_items(array)


def _told(array: np.ndarray | Formless, wanted: Wanted, size: int) -> dict[str, Any]:
    if isinstance(array, Formless):
        return {"name": wanted.name, "reason": array.reason, "size": size}
    form = {"name": wanted.name, "datatype": datatype_of(array.dtype), "shape": list(array.shape[1:])}
    return form | {"is_binary": wanted.is_binary, "size": size}
