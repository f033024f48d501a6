"""The family `tensors`: requests of the Open Inference Protocol, which send tensors and get tensors."""

from engine.frames import Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.scoring.loaded import LoadedModels
from engine.tasks.tensors import describe, infer


def tasks(families: Families) -> dict[str, TaskFunction]:
    """infer and describe, for the models that the families `scoring` and `embedding` open."""
    models = families.the(LoadedModels)

    def infer_requests(header: Header, payload: memoryview) -> Reply:
        return infer.infer(models, header, payload)

    def describe_model(header: Header, payload: memoryview) -> Reply:
        return describe.describe(models.require(header["model"]), header)

    return {"infer": infer_requests, "describe": describe_model}
