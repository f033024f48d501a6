"""Attribution sets: several attributions on common dates, which a job recounts from their draws.

Knows no HTTP and no numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import EngineError, ListedError
from engine.jobs import JobKind, Work
from engine.projects.attributions import KIND as ATTRIBUTION
from engine.projects.attributions import Attributions
from engine.projects.codes import EMPTY_REQUEST, REFUSALS
from engine.projects.objects import ONLY_SLOT, Object, ObjectKind, Objects, Project
from engine.projects.work import Settled, object_kind, task_of
from engine.replicas.blocks import Answer
from engine.store import ObjectName, Transaction

KIND: ObjectKind = "attribution_set"
ALIGN = task_of("align")


class AttributionSets:
    """The attribution sets of all projects."""

    def __init__(self, objects: Objects, attributions: Attributions) -> None:
        self._objects = objects
        self._attributions = attributions

    async def create(self, project: Project, iids: Sequence[int], *, activate: bool, created_by: str) -> Object:
        """A new set. On a date that several have of one combination, the attribution named first counts.

        iids    numbers of attributions; one that is repeated counts once
        raises  EngineError `empty_request`, `unknown_attribution`, `not_complete`, `mixed_target`, `too_many_jobs`
        """
        iids = list(dict.fromkeys(iids))
        if not iids:
            raise EngineError(EMPTY_REQUEST, "Name at least one attribution.")
        await self._objects.require_complete(project, ATTRIBUTION, iids)
        sources = [await self._source(project, iid) for iid in iids]
        _check_alike(sources)
        uses: list[tuple[ObjectKind, int]] = [(ATTRIBUTION, iid) for iid in iids]
        request = {"attributions": iids, "activate": activate}
        return await self._objects.create(project, KIND, request, created_by=created_by, uses=uses)

    async def _source(self, project: Project, iid: int) -> dict[str, Any]:
        """One attribution, as the replica is told of it."""
        found = await self._attributions.complete(project, iid)
        about = await self._attributions.about(found)
        return {
            "iid": iid,
            "folder": str(self._attributions.folder_of(found)),
            "combination": found.request["combination"],
            **about,
        }

    async def active(self, project: Project) -> Object | None:
        """The set that is active, if one is."""
        found = await self._objects.active(project, KIND)
        return found[0] if found else None

    # The job

    def kind(self) -> JobKind:
        return object_kind(self._objects, ALIGN.name, "quick", self._ask, self._settled)

    async def _ask(self, found: Object) -> Work:
        sources = [await self._source(found.project, iid) for iid in found.request["attributions"]]
        return Work(ALIGN, {"attributions": sources})

    async def _settled(self, transaction: Transaction, found: Object, answer: Answer) -> Settled:
        slot = ONLY_SLOT if found.request["activate"] else None
        return Settled(str(answer.payload, "utf-8"), active_slot=slot)

    async def remove(self, name: ObjectName, request: Mapping[str, Any]) -> None:
        """A set has no files."""


def _check_alike(sources: Sequence[Mapping[str, Any]]) -> None:
    """ListedError `mixed_target`."""
    kinds = [(source["target_metric"], source["frequency"]) for source in sources]
    if len(set(kinds)) > 1:
        details = [
            {"Code": "mixed_target", "IId": source["iid"], "Message": f"It is of {metric}, {frequency}."}
            for source, (metric, frequency) in zip(sources, kinds, strict=True)
        ]
        raise ListedError(REFUSALS["mixed_target"], "All attributions of a set have one target and one frequency.", details)
