"""What an attribution reads: a fitted model, a dataset, and the periods between two dates. Needs neither scipy nor onnx."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.frames import Header
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.refusals import Refusal
from engine.tasks.projects.sources import Dataset

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Attributable:
    """asked_for: bool [periods], those that begin between the two dates."""

    fitted: Fitted
    dataset: Dataset
    readings: Readings
    asked_for: Array
    warnings: list[dict[str, Any]]

    @classmethod
    def of(cls, header: Header) -> "Attributable":
        """Refusal `bad_range`, `source_missing`, `unknown_combination`."""
        fitted = Fitted.read(Path(header["model"]))
        dataset = Dataset(header["files"], fitted.combination, extra_periods=fitted.instance.memory)
        readings, warnings = Readings.of(fitted.instance, dataset)
        return cls(fitted, dataset, readings, _between(dataset, header["start_date"], header["end_date"]), warnings)


def check(header: Header) -> list[dict[str, Any]]:
    """Warnings, for the task `check_attribution`. Refusal."""
    return Attributable.of(header).warnings


def _between(dataset: Dataset, start: str, end: str) -> Array:
    """bool [periods] of those that begin between two dates. Refusal `bad_range`."""
    starts = dataset.periods.starts
    found = (starts >= np.datetime64(start)) & (starts <= np.datetime64(end)) & (starts <= dataset.last_day)
    last = np.searchsorted(starts, dataset.last_day, side="right") - 1
    there_are = f"The data has periods from {starts[0]} to {starts[last]}"
    if not found.any():
        raise Refusal("bad_range", f"{there_are}, none between {start} and {end}.")
    if np.datetime64(end) >= dataset.periods.ends[last]:
        raise Refusal("bad_range", f"{there_are}, and end_date {end} is later.")
    result: Array = found
    return result
