"""The family `embedding`: opens models with the task `embed`, and turns texts into vectors."""

from engine.frames import Header
from engine.tasks.embedding import embed
from engine.tasks.embedding.embedder import Embedder
from engine.tasks.families import Families, Reply, TaskFunction
from engine.tasks.scoring.loaded import LoadedModels


def tasks(families: Families) -> dict[str, TaskFunction]:
    """load and embed. The family `scoring` unloads these models too, and scores records with them."""
    models = families.the(LoadedModels)

    def load(header: Header, payload: memoryview) -> Reply:
        return models.load(Embedder, header), []

    def embed_texts(header: Header, payload: memoryview) -> Reply:
        return embed.embed(models, header, payload)

    return {"load": load, "embed": embed_texts}
