"""What an upload is asked to do, and what became of it. Plain data; knows nothing of how it is done."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from engine.accounts import Caller
from engine.datasets import Conditions
from engine.datasets.versions import DEFAULT_SPLIT, DatasetVersion
from engine.frames import Buffer
from engine.repository.listed import ListedModel


class Embedder(Protocol):
    """What the embeddings surface does for uploads."""

    def find_model(self, caller: Caller, name: str | None) -> ListedModel:
        """The model of this name, or the first that the caller sees. EngineError `model_not_found`."""
        ...

    async def embed_lines(self, model: ListedModel, lines: memoryview, num_lines: int) -> list[Buffer]:
        """The float32 bytes of the vectors of texts, in order; each line is a JSON string."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedPair:
    """A vector column that is to be computed from a text column."""

    source: str
    column: str
    model: ListedModel


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What the sender asks for.

    types         column -> type, where the rows alone would not tell
    class_labels  text columns whose values become class labels
    words         text columns that get a word index
    skips         bad lines are left out; else the first one refuses the whole upload
    """

    types: dict[str, str] = field(default_factory=dict)
    class_labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    embed: tuple[EmbedPair, ...] = ()
    skips: bool = False
    split: str = DEFAULT_SPLIT

    def for_task(self) -> dict[str, Any]:
        pairs = [{"source": one.source, "column": one.column, "model": one.model.name, "dim": one.model.dim} for one in self.embed]
        return {
            "types": self.types,
            "class_labels": list(self.class_labels),
            "words": list(self.words),
            "embed": pairs,
            "on_error": "skip" if self.skips else "stop",
        }


@dataclass(frozen=True, slots=True)
class Order:
    """One upload: where its rows go, on which conditions, and for whom.

    user        who sends it
    models      the embedding models of the dataset's columns and of the options, by name
    is_counted  the quotas of the owner count
    """

    org: str
    name: str
    what: Literal["append", "replace"]
    user: str
    options: UploadOptions
    conditions: Conditions
    models: dict[str, ListedModel]
    is_counted: bool

    @property
    def title(self) -> str:
        return f"{self.org}/{self.name}"


@dataclass(slots=True)
class Uploaded:
    """What became of an upload. `errors` has the first of the lines that were skipped, each with `line` and `message`."""

    title: str
    version: DatasetVersion
    is_new: bool
    added: int
    skipped: int
    errors: list[dict[str, Any]]
