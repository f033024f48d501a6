"""The store: every statement that the server sends to SQLite, each with a name and the question it answers.

This folder is the only place that speaks SQLite. It has one file per noun, and `Store` joins them. It knows nothing of HTTP, of
keys in the clear, or of what a name means.
"""

from engine.store.connection import StoreBusy, StoreError, StoreFull, Transaction
from engine.store.datasets import DatasetRow, DatasetStore, Visibility
from engine.store.graphs import GraphRow, GraphStore, InstanceRow
from engine.store.jobs import ANYTHING, JobRow, JobStatus, JobStore, NewJob, Subject
from engine.store.models import ModelOverrides, ModelStore
from engine.store.objects import ObjectEnd, ObjectName, ObjectRow, ObjectStore
from engine.store.preview import CachedDataset, FoundDataset, PreviewStore
from engine.store.preview_splits import CachedSplit, CacheStatus, LaterStatus, ListedSplit, SplitAnswers, SplitReport
from engine.store.projects import ProjectRow, ProjectStore
from engine.store.teams import TeamRow, TeamStore
from engine.store.tokens import NewToken, TokenRow, TokenStore
from engine.store.users import Credential, KeyKind, User, UserStore

__all__ = [
    "ANYTHING",
    "CacheStatus",
    "CachedDataset",
    "CachedSplit",
    "Credential",
    "DatasetRow",
    "FoundDataset",
    "GraphRow",
    "InstanceRow",
    "JobRow",
    "JobStatus",
    "KeyKind",
    "LaterStatus",
    "ListedSplit",
    "ModelOverrides",
    "NewJob",
    "NewToken",
    "ObjectEnd",
    "ObjectName",
    "ObjectRow",
    "ProjectRow",
    "SplitAnswers",
    "SplitReport",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreFull",
    "Subject",
    "TeamRow",
    "TokenRow",
    "Transaction",
    "User",
    "Visibility",
]


class Store(
    UserStore, TokenStore, TeamStore, ModelStore, DatasetStore, JobStore, PreviewStore, ProjectStore, ObjectStore, GraphStore
):
    """The whole database. Make it with `await Store.open(path)`."""
