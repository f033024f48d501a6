"""Attempts: the folder that one attempt at a job writes, until what is in it takes its place among the datasets."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from engine.projects import files
from engine.replicas.blocks import Answer


@dataclass(slots=True)
class Attempt:
    """One folder; it goes with its attempt, unless the replica has written all of it: then it is about to take its place."""

    folder: Path
    has_answered: bool = False

    async def answered(self, answer: Answer) -> None:
        """For Work.then."""
        self.has_answered = not {"refused", "full"} & answer.header.keys()

    async def ended(self) -> None:
        """For Work.end."""
        if not self.has_answered:
            await asyncio.to_thread(files.remove, self.folder)
