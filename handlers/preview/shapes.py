"""What bodies and answers of preview hold, for the documentation: most answers are encoded by replicas."""

from typing import Any, Literal, NotRequired

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict


class SplitName(TypedDict):
    dataset: str
    config: str
    split: str


class ListedSplit(SplitName):
    """Numbers are null until they are known."""

    num_bytes: int | None
    num_examples: int | None


class SplitsAnswer(TypedDict):
    splits: list[ListedSplit]


class OldColumn(SplitName):
    """`column` has name and type, and the labels of a class."""

    column_idx: int
    column: dict[str, Any]


class OldRow(SplitName):
    row_idx: int
    row: dict[str, Any]
    truncated_cells: NotRequired[list[str]]


class OldRowsAnswer(TypedDict):
    """The first rows of a split, each with its names."""

    columns: list[OldColumn]
    rows: list[OldRow]


class Feature(TypedDict):
    """A column and its type, as newer clients know types; that of a prediction has no number."""

    feature_idx: NotRequired[int]
    name: str
    type: dict[str, Any] | list[Any]


class PreviewRow(TypedDict):
    """`truncated_cells` names the columns that are cut."""

    row_idx: int
    row: dict[str, Any]
    truncated_cells: list[str]


class FirstRowsAnswer(SplitName):
    features: list[Feature]
    rows: list[PreviewRow]
    truncated: bool


class PageAnswer(TypedDict):
    """Rows from any place of a split; `partial` until the split is prepared."""

    features: list[Feature]
    rows: list[PreviewRow]
    num_rows_total: int | None
    num_rows_per_page: int
    partial: bool


class Pending(SplitName):
    """A split that waits to be prepared."""

    kind: str


class Failed(Pending):
    """A split that cannot be prepared, with the error in six keys."""

    error: dict[str, Any]


class Sizes(TypedDict):
    """What is known of a dataset, or of a part of it."""

    dataset: str
    num_bytes_original_files: int | None
    num_bytes_parquet_files: int | None
    num_bytes_memory: int | None
    num_rows: int | None
    estimated_num_rows: int | None


class ConfigSizes(Sizes):
    config: str
    num_columns: int | None


class SplitSizes(ConfigSizes):
    split: str


class AllSizes(TypedDict):
    dataset: Sizes
    configs: list[ConfigSizes]
    splits: list[SplitSizes]


class PreparedAnswer(TypedDict):
    pending: list[Pending]
    failed: list[Failed]
    partial: bool


class SizeAnswer(PreparedAnswer):
    size: AllSizes


class ParquetFile(SplitName):
    url: str
    filename: str
    size: int


class ParquetAnswer(PreparedAnswer):
    parquet_files: list[ParquetFile]


class ColumnStatistics(TypedDict):
    """`column_statistics` has other keys for each `column_type`."""

    column_name: str
    column_type: str
    column_statistics: dict[str, Any]


class StatisticsAnswer(TypedDict):
    num_examples: int
    statistics: list[ColumnStatistics]
    partial: bool


class IsValidAnswer(TypedDict):
    valid: bool


class CacheCounts(TypedDict):
    empty: int
    error: int
    stalled: int
    valid: int


class CacheAnswer(TypedDict):
    datasets: CacheCounts
    splits: CacheCounts
    created_at: str


class CacheReport(TypedDict):
    """An entry of the cache; only one that is an error has an `error` that is not null."""

    dataset: str
    config: NotRequired[str]
    split: NotRequired[str | None]
    status: str
    error: dict[str, Any] | None


class CacheReportsByStatus(TypedDict):
    empty: list[CacheReport]
    error: list[CacheReport]
    stalled: list[CacheReport]
    valid: list[CacheReport]


class CacheReportsAnswer(TypedDict):
    datasets: CacheReportsByStatus
    splits: CacheReportsByStatus
    created_at: str


class ValidAnswer(TypedDict):
    valid: list[str]
    created_at: str


class StateCounts(TypedDict):
    valid: int
    error: int
    missing: int


class CountsAnswer(TypedDict):
    """Datasets without an org are canonical."""

    canonical: StateCounts
    community: StateCounts
    created_at: str


class DatasetCard(TypedDict):
    id: str
    tags: list[str]
    citation: str | None
    description: str | None
    paperswithcode_id: str | None
    downloads: int


class CardsAnswer(TypedDict):
    datasets: list[DatasetCard]


class JobCounts(TypedDict):
    waiting: int
    started: int
    success: int
    error: int
    cancelled: int


class QueueAnswer(TypedDict):
    datasets: JobCounts
    splits: JobCounts
    created_at: str


class DumpedJob(TypedDict):
    dataset_name: str
    config_name: NotRequired[str]
    split_name: NotRequired[str]
    status: str
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobsByStatus(TypedDict):
    """A dump of the jobs that are not finished has the first two alone."""

    waiting: list[DumpedJob]
    started: list[DumpedJob]
    success: NotRequired[list[DumpedJob]]
    error: NotRequired[list[DumpedJob]]
    cancelled: NotRequired[list[DumpedJob]]


class DumpAnswer(TypedDict):
    datasets: JobsByStatus
    splits: JobsByStatus
    created_at: str
    truncated: NotRequired[bool]


class WebhookBody(BaseModel):
    """`datasets/NAME` for each; `add` and `update` mean the same. Other keys are ignored."""

    model_config = ConfigDict(extra="allow")

    add: str | None = None
    update: str | None = None
    remove: str | None = None


class SplitBody(BaseModel):
    """The split to read again. Other keys are ignored."""

    model_config = ConfigDict(extra="allow")

    dataset: str
    config: str
    split: str


class HookAnswer(TypedDict):
    """`error` is there when the status is `error`."""

    status: Literal["ok", "error"]
    error: NotRequired[str]
