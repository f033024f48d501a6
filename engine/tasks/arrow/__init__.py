"""The family `arrow`: streams whose bodies are record batches of Arrow.

A replica imports it, and pyarrow with it, when the first such stream comes.
"""

from engine.frames import Header
from engine.tasks.arrow import cutting, score
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.scoring.loaded import LoadedModels


def tasks(families: Families) -> dict[str, TaskFunction]:
    """open, cut and score, for the models that the families `scoring` and `embedding` open."""
    models = families.the(LoadedModels)

    def open_stream(header: Header, payload: memoryview) -> Reply:
        return score.open_stream(models.require(header["model"]), header, payload)

    def score_rows(header: Header, payload: memoryview) -> Reply:
        return score.score(models.require(header["model"]), header, payload)

    return {"open": open_stream, "cut": cutting.cut_batch, "score": score_rows}
