"""What answers of projects hold, for the documentation. Results come from replicas, and are null before they are there."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

RoleWord = Literal["Observer", "Member", "DataManager", "ModelDeveloper", "Manager", "Admin"]
DataStatus = Literal["pending", "processing", "complete", "failed", "cancelled"]
ModelStatus = Literal["pending", "running", "completed", "failed", "cancelled"]
Anything = dict[str, Any]


class TokenAnswer(TypedDict):
    """A token; the answer that makes it has its value in `Token`."""

    IId: int
    Name: str
    Prefix: str
    ExpiresAt: str
    CreatedAt: str
    LastUsedAt: str | None
    RevokedAt: str | None
    Token: NotRequired[str]


class ProjectName(TypedDict):
    Id: str
    Name: str


class TeamAnswer(TypedDict):
    """A team, the caller's role in it, and its projects."""

    Id: str
    Name: str
    Role: RoleWord
    Projects: list[ProjectName]


class MemberAnswer(TypedDict):
    User: str
    Role: RoleWord


class ProjectAnswer(ProjectName):
    """A project, and the numbers of what is active in it."""

    ActiveDataset: int | None
    ActiveModels: list[int]
    ActiveAttributionSet: int | None


class ObjectNumber(TypedDict):
    IId: int


class JobError(TypedDict):
    """Why a job has failed."""

    Code: str
    Message: str
    Details: list[Anything]
    DetailsTotal: int


class ProjectObject(TypedDict):
    """What all objects of a project show. Times are UTC."""

    IId: int
    CreatedAt: str
    CreatedBy: str
    StartedAt: str | None
    FinishedAt: str | None
    Attempt: int
    Progress: Anything | None
    Warnings: list[Anything]
    Error: JobError | None


class ListedUpload(ProjectObject):
    Status: DataStatus
    upload_id: int
    DatasetName: str
    FileName: str
    Bytes: int


class UploadedFile(ListedUpload):
    """An upload, and what was found in its file."""

    Layout: str | None
    Rows: int | None
    Frequency: str | None
    Combinations: list[Anything] | None
    FirstDate: str | None
    LastDate: str | None


class ListedProjectDataset(ProjectObject):
    Status: DataStatus
    Active: bool
    Uploads: list[int]
    Datasets: list[int]


class ProjectDataset(ListedProjectDataset):
    """A dataset, with its name in the catalogue (`Hub`)."""

    Hub: str | None
    Types: Any
    Frequency: str | None
    Combinations: list[Anything] | None


class GraphId(TypedDict):
    Id: int


class SavedGraph(GraphId):
    CreatedAt: str


class GraphAnswer(TypedDict):
    """Nodes and edges. A suggestion has no Id; an instance has the Id of the graph that it was made from."""

    Id: NotRequired[int]
    Graph: NotRequired[GraphId]
    nodes: NotRequired[list[Anything]]
    edges: NotRequired[list[Anything]]


class InstanceId(GraphId):
    Graph: GraphId


class ListedFit(ProjectObject):
    Status: ModelStatus
    Country: str
    Region: str
    Grouping: str
    Active: bool
    DataSet: ObjectNumber
    GraphInstance: InstanceId
    Parent: ObjectNumber | None
    Kind: str


class FitAnswer(ListedFit):
    """A model: how it was asked for, how well it fits, and under which name it is served."""

    TrainDates: list[str]
    EvalDates: list[str]
    ModelParam: Anything
    Metrics: Anything | None
    Diagnostics: Anything | None
    Drift: Any
    Scales: Any
    Served: Any


class ListedAttribution(ProjectObject):
    Status: ModelStatus
    Model: ObjectNumber
    DataSet: ObjectNumber
    Country: str
    Region: str
    Grouping: str
    Hub: str | None


class AttributionAnswer(ListedAttribution):
    """An attribution, and what each cause brought (`Totals`)."""

    StartDate: str
    EndDate: str
    Samples: int
    Observed: Any
    Prediction: Any
    Baseline: Any
    Totals: list[Anything] | None


class ListedSet(ProjectObject):
    Status: DataStatus
    Active: bool
    Attributions: list[ObjectNumber]


class SetAnswer(ListedSet):
    """A set of attributions, with totals over its dates."""

    FirstDate: str | None
    LastDate: str | None
    Combinations: list[Anything] | None


class NoSetAnswer(TypedDict):
    """While no set is active."""

    IId: None
    Status: None
    Attributions: list[ObjectNumber]
