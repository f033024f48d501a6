"""Where the time of a frame goes: the seconds of each stage, for the server's metrics and its estimate of what a record costs."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stages:
    """The stages of one frame: parse, tokenise, infer, encode. A stage begins when the one before it ends.

    is_harmful  some run failed in a way that costs the replica much (families.is_harmful)
    cells, padded  all cells [text, token] of the runs of a model that tokenises, and those of them that hold no token
    """

    seconds: dict[str, float] = field(default_factory=dict)
    cells: int = 0
    padded: int = 0
    is_harmful: bool = False
    _since: float = field(default_factory=time.perf_counter)

    def ended(self, stage: str) -> None:
        """Count the time since the last stage ended as this stage's."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    def report(self) -> dict[str, Any]:
        """For the header of the answer: `stages`; for a model that tokenises `padding`, the share of cells without a token.

        Also `is_harmful`, but only if it is true.
        """
        report: dict[str, Any] = {"stages": self.seconds}
        if self.cells:
            report["padding"] = self.padded / self.cells
        if self.is_harmful:
            report["is_harmful"] = True
        return report
