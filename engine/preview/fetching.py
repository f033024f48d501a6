"""The steps of jobs that ask a hub: a dataset that the catalogue has not is found there, and files of a split are fetched.

Each step is a Work with what comes after it. A hub that does not answer, or gives less than is needed, ends the job with what
`Doing` then says.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.jobs import Work
from engine.preview.faults import ROWS_ERROR, SPLITS_NAMES_ERROR, PreviewFault
from engine.preview.hub import FETCH_TASK, FIND_TASK, LIST_TASK, Hub
from engine.preview.tasks import FILES_TASK, MAX_WAITING, ScannedDataset
from engine.replicas.blocks import Answer


@dataclass(slots=True)
class Doing:
    """What a job that is being done has seen, for its commit.

    found        the scanned datasets
    revision     that its files have
    names        of datasets that the hub lists
    unreachable  why the hub did not answer; empty if it did
    fault        why there is nothing to do
    """

    found: tuple[ScannedDataset, ...] = ()
    revision: str = ""
    names: tuple[str, ...] = ()
    unreachable: str = ""
    fault: PreviewFault | None = None


class Fetching:
    """Knows of a hub which of its files a job needs."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @property
    def is_on(self) -> bool:
        return self._hub.is_on

    def find(self, name: str, doing: Doing, then: Callable[[], Work | None]) -> Work:
        """Look for a dataset, which is `doing.found` afterwards."""

        async def found(answer: Answer) -> Work | None:
            if self._is_unreachable(answer, doing, SPLITS_NAMES_ERROR):
                return None
            if one := answer.header["dataset"]:
                doing.found = (ScannedDataset.of_scan(one),)
            return then()

        return Work(FIND_TASK, self._hub.find(name), then=found)

    def list(self, known: Iterable[str], doing: Doing) -> Work:
        """Ask for the hub's list, which is `doing.names` afterwards."""

        async def listed(answer: Answer) -> Work | None:
            if not self._is_unreachable(answer, doing, SPLITS_NAMES_ERROR):
                doing.names = tuple(answer.header["names"])
            return None

        return Work(LIST_TASK, self._hub.list(known, MAX_WAITING), then=listed)

    def before(self, work: Work, doing: Doing, *, is_whole: bool) -> Work:
        """Work on a split, which comes at once if its files are here, and else when they were fetched.

        is_whole  all of the split is needed, not only its first rows
        """
        asked = work.arguments
        if not self._hub.has(asked["root"]):
            return work
        names = {name: asked[name] for name in ("root", "name", "config", "split")}
        return Work(FILES_TASK, names, then=partial(self._files_known, work, doing, is_whole))

    async def _files_known(self, work: Work, doing: Doing, is_whole: bool, answer: Answer) -> Work | None:
        header: dict[str, Any] = answer.header
        if "failure" in header:
            return None
        plan = self._hub.whole if is_whole else self._hub.start
        wanted = plan(work.arguments["name"], work.arguments["root"], header)
        if wanted is None:
            doing.fault = self._hub.too_large(header)
            return None

        async def fetched(answer: Answer) -> Work | None:
            if self._is_unreachable(answer, doing, ROWS_ERROR):
                return None
            if reason := answer.header["refused"]:
                doing.fault = PreviewFault(ROWS_ERROR, "", "PermissionError", reason)
                return None
            return work

        return Work(FETCH_TASK, wanted, then=fetched)

    @staticmethod
    def _is_unreachable(answer: Answer, doing: Doing, code: Any) -> bool:
        if text := answer.header.get("unreachable"):
            doing.unreachable = text
            doing.fault = PreviewFault(code, "", "ConnectionError", f"the hub did not answer: {text}")
        return bool(text)
