"""The family `scoring`: opens models with the task `predict`, and turns records into results with any model that is open."""

from engine.frames import Header
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.scoring import score
from engine.tasks.scoring.loaded import LoadedModels
from engine.tasks.scoring.model import LoadedModel


def tasks(families: Families) -> dict[str, TaskFunction]:
    """load, unload and score. The models that `embedding` opens are in the same collection."""
    models = families.the(LoadedModels)

    def load(header: Header, payload: memoryview) -> Reply:
        return models.load(LoadedModel, header), []

    def unload(header: Header, payload: memoryview) -> Reply:
        models.unload(header["model"])
        return {}, []

    def score_block(header: Header, payload: memoryview) -> Reply:
        return score.score(models.require(header["model"]), header, payload)

    return {"load": load, "unload": unload, "score": score_block}
