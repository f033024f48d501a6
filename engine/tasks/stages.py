"""Where the time of a block goes: seconds by stage, as metrics and the cost average want them."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stages:
    """The stages of one frame, in the order they end: parse, tokenise, infer, encode.

    cells, padded  of a model that tokenises: all cells of its runs, and those that hold no token
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cells: int = 0
    padded: int = 0
    _since: float = field(default_factory=time.perf_counter)

    def ended(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    def report(self) -> dict[str, Any]:
        """What goes into the header of an answer: `stages`, and for a model that tokenises `padding`, a share of 1."""
        return {"stages": self.seconds} | ({"padding": self.padded / self.cells} if self.cells else {})
