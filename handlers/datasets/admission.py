"""What all routes of the datasets surface share: the dataset that a path names, who may change it, and on which conditions.

Decides before a byte of a body is read. Knows nothing of what a body holds.
"""

import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from engine.accounts import Caller, Right, full_key_needed
from engine.columns import Column
from engine.datasets import Conditions, Dataset, DatasetChanges, Datasets, Sources
from engine.datasets.catalogue import ROLE_TO_CHANGE
from engine.datasets.names import BAD_NAME, DATASET_NAME, ORG_NAME
from engine.datasets.versions import DatasetVersion
from engine.errors import INVALID_PARAMETER, EngineError, shutting_down
from engine.ingestion import Ingestion
from handlers.http.auth import known_caller
from handlers.http.errors import refuse_with_code
from handlers.http.keys import ENGINE, TEAMS
from handlers.http.parameters import number
from handlers.http.routes import RESERVED, Surface

DATASETS = web.AppKey("datasets", Datasets)
SOURCES = web.AppKey("sources", Sources)
CHANGES = web.AppKey("dataset_changes", DatasetChanges)
INGESTION = web.AppKey("ingestion", Ingestion)

PATH = "/api/datasets/{org}/{dataset}"
ETAG = re.compile(r'(?:W/)?"([^"]*)"')
WRITER = "the full key of the owner, of a DataManager in its team, or of the admin"
READER = "any that reads the dataset"


@dataclass(frozen=True, slots=True)
class DatasetPath:
    """Org and name of a dataset, as a path gives them, and the caller who may change it. `dataset` is None for a new one."""

    org: str
    name: str
    caller: Caller
    dataset: Dataset | None

    @property
    def title(self) -> str:
        return f"{self.org}/{self.name}"

    @property
    def right(self) -> Right:
        """What the caller must keep while it changes the dataset."""
        return Right(self.org, ROLE_TO_CHANGE)


async def readable(request: web.Request) -> Dataset:
    """The dataset of the path, which the caller may read. EngineError: those of `known_caller`, `bad_name`, `dataset_not_found`."""
    caller = await known_caller(request)
    return request.app[DATASETS].find(caller, *names(request))


async def writable(request: web.Request) -> DatasetPath:
    """The dataset of the path, which the caller may change or make.

    raises  EngineError: those of `known_caller` and of `Datasets.writable`, `bad_name`, `forbidden` for a dataset of a project,
            `shutting_down`
    """
    caller = await known_caller(request)
    if caller.kind != "full":
        raise full_key_needed()
    org, name = names(request)
    dataset = request.app[DATASETS].writable(caller, org, name)
    await request.app[TEAMS].check_not_made(org, name)
    if request.app[ENGINE].is_draining:
        raise shutting_down()
    return DatasetPath(org, name, caller, dataset)


def names(request: web.Request) -> tuple[str, str]:
    """Org and name of the path. EngineError `bad_name`."""
    org, name = request.match_info["org"], request.match_info["dataset"]
    if not DATASET_NAME.fullmatch(name):
        raise EngineError(BAD_NAME, "A dataset has a name of 1 to 96 letters, digits, . _ and -, the first a letter or digit.")
    if not ORG_NAME.fullmatch(org) or org.lower() in RESERVED:
        raise EngineError(BAD_NAME, "The first part of the name of a dataset is a user.")
    return org, name


def wanted_version(request: web.Request) -> int | None:
    """The parameter `version`; None without it. EngineError `invalid_parameter`."""
    version = number(request, "version")
    if version == 0:
        raise EngineError(INVALID_PARAMETER, "version must be a whole number from 1.")
    return version


# Conditions


def conditions(request: web.Request, *, must_exist: bool) -> Conditions:
    """What If-Match and If-None-Match demand. EngineError `invalid_parameter`."""
    is_new_wanted = False
    if hdrs.IF_NONE_MATCH in request.headers:
        if request.headers[hdrs.IF_NONE_MATCH].strip() != "*":
            raise EngineError(INVALID_PARAMETER, 'If-None-Match must be "*" here: make the dataset only if there is none.')
        is_new_wanted = True
    text = ",".join(request.headers.getall(hdrs.IF_MATCH, ())).strip()
    if hdrs.IF_MATCH not in request.headers:
        return Conditions(must_exist, is_new_wanted)
    if text == "*":
        return Conditions(True, is_new_wanted)
    return Conditions(must_exist, is_new_wanted, frozenset(map(_version_of, text.split(","))))


def _version_of(tag: str) -> int:
    """The version of an entity tag. One that never was a version of ours matches none."""
    found = ETAG.fullmatch(tag.strip())
    if found is None:
        raise EngineError(INVALID_PARAMETER, 'If-Match must be a version in quotes: If-Match: "7".')
    is_version = tag.strip().startswith('"') and found[1].isascii() and found[1].isdigit() and len(found[1]) < 10
    return int(found[1]) if is_version else 0


def etag(version: int) -> dict[str, str]:
    return {hdrs.ETAG: f'"{version}"'}


# Answers


def columns(version: DatasetVersion) -> list[dict[str, object]]:
    return [_column(version, column) for column in version.columns]


def _column(version: DatasetVersion, column: Column) -> dict[str, object]:
    """One column as describe and uploads show it; what does not apply to it is left out."""
    shown: dict[str, object] = {"name": column.name, "dtype": column.dtype}
    if column.dim:
        shown["dim"] = column.dim
    shown["nulls"] = version.nulls(column)
    if column.dtype == "class":
        shown["names"] = list(column.names)
    for key in ("source", "model", "words"):
        if value := getattr(column, key):
            shown[key] = value
    return shown


SURFACE = Surface(name="datasets", refuse=refuse_with_code, prefixes=("/api/datasets",), schema="CodedError")

# Words of several routes for /openapi.json
REFUSALS = {
    401: "credentials are missing or wrong",
    404: "there is no such dataset, or the caller may not read it",
}
CHANGE_REFUSALS = REFUSALS | {
    400: "a name, a parameter or the body is wrong",
    403: "the key is read-only, or the caller may only read the dataset",
    412: "the dataset has another version than If-Match names",
    503: "the server is draining; see Retry-After",
}
