"""What bodies and answers of datasets hold, for the documentation and for the types of what handlers make."""

from typing import Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


class RowBody(BaseModel):
    """One row: a value for each column. Several rows are sent as lines."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"text": "Honey never spoils.", "year": 2019}]})


class ListedDataset(TypedDict):
    """`dataset` is the name of a source of queries: hub://org/name. The others are null until preview has prepared files that no
    upload has made."""

    dataset: str
    rows: int | None
    version: int | None
    bytes: int | None
    updated_at: str | None


class DatasetList(TypedDict):
    """The datasets that the caller may read, by name."""

    datasets: list[ListedDataset]


class DatasetColumn(TypedDict):
    """One column; `dim` is there for vectors, `names` for class labels, and the last three for what is computed or indexed."""

    name: str
    dtype: str
    dim: NotRequired[int]
    nulls: int
    names: NotRequired[list[str]]
    source: NotRequired[str]
    model: NotRequired[str]
    words: NotRequired[bool]


class KeptVersion(TypedDict):
    """A version that is kept, who made it, and by which change."""

    version: int
    rows: int
    created_at: str
    by: str
    what: str


class DatasetDescription(TypedDict):
    """One version of a dataset. `splits` has the number of rows of each. Visibility and versions are those of uploads."""

    dataset: str
    version: int
    rows: int
    visibility: NotRequired[Literal["public", "private"]]
    description: NotRequired[str]
    splits: dict[str, int]
    columns: list[DatasetColumn]
    versions: NotRequired[list[KeptVersion]]


class UploadAnswer(TypedDict):
    """The version that the upload made. `errors` has the first lines that were skipped, each with `line` and `message`."""

    dataset: str
    version: int
    rows: int
    added: int
    skipped: int
    errors: list[dict[str, Any]]
    columns: list[DatasetColumn]


class DeletionAnswer(TypedDict):
    """The current version, and how many rows it has less."""

    dataset: str
    version: int
    rows: int
    deleted: int
