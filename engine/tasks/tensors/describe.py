"""The task `describe`: which tensors a model takes and gives, as the protocol's metadata tell it."""

from typing import Any

from engine.frames import Buffer, Header
from engine.tasks import codec
from engine.tasks.scoring.arrays import TensorInfo
from engine.tasks.scoring.model import Scorer
from engine.tasks.stages import Stages
from engine.tasks.tensors.datatypes import datatype_of


def describe(model: Scorer, header: Header) -> tuple[Header, list[Buffer]]:
    """The same JSON for each block of the frame: an object with `inputs` and `outputs`."""
    tensors = model.as_tensors
    told = {"inputs": list(map(_told, tensors.inputs.values())), "outputs": list(map(_told, tensors.outputs))}
    body = codec.dumps(told)
    sizes = header["sizes"]
    parts = [{"size": len(body)} for _ in sizes]
    return {"results": 0, "errors": 0, **Stages().report(), "parts": parts}, [body] * len(sizes)


def _told(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "datatype": datatype_of(info.dtype), "shape": list(info.shape)}
