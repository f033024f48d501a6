"""The task `attribute`: a fitted model and a dataset become totals, a table by date, and the draws that sets are made of."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.frames import Header
from engine.tasks.families import Reply
from engine.tasks.projects import advice
from engine.tasks.projects.attributable import Attributable
from engine.tasks.projects.attribution import Attributed, attribute, totals
from engine.tasks.projects.periods import written
from engine.tasks.projects.progress import Stage
from engine.tasks.projects.refusals import warning
from engine.tasks.projects.replies import reply
from engine.tasks.projects.summaries import LEVELS, interval, number

Array = np.ndarray


def run(header: Header) -> Stage[Reply]:
    """The answer of the task. Refusals as of Attributable."""
    read = Attributable.of(header)
    fitted = read.fitted.spaced(min(header["samples"], len(read.fitted.draws)))
    found = yield from attribute(fitted, read.dataset, read.readings, read.asked_for)
    warnings = list(read.warnings)
    if header["samples"] < advice.FEW_DRAWS:
        warnings.append(warning("few_draws", f"{header['samples']} draws give coarse intervals."))
    warnings += advice.extrapolation(fitted, read.readings, read.asked_for)
    write(found, Path(header["folder"]), header["title"])
    told = {"warnings": warnings, "frequency": fitted.frequency, "target_metric": fitted.target_metric}
    return reply({"answer": {**answer(found), "Samples": header["samples"]}}, **told)


def answer(found: Attributed) -> dict[str, Any]:
    """The attribution as users see it."""
    observed = found.observed[~np.isnan(found.observed)]
    return {
        "StartDate": str(found.dates[0]),
        "EndDate": str(found.dates[-1]),
        "Observed": float(observed.sum()) if len(observed) == len(found.dates) else None,
        "Prediction": interval(found.prediction.sum(axis=1)),
        "Baseline": interval(found.baseline.sum(axis=1)),
        "Totals": totals(found),
    }


def write(found: Attributed, folder: Path, title: str) -> None:
    """README.md, effects.parquet and effects.npz, all of it on the disk."""
    (folder / "README.md").write_text(README.format(title=title), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows(found), schema=SCHEMA), folder / "effects.parquet")
    arrays: dict[str, Any] = {f"effect{i}": effect.total for i, effect in enumerate(found.groups.values())}
    arrays |= {f"direct{i}": effect.direct for i, effect in enumerate(found.groups.values())}
    arrays |= {
        f"via{i}.{j}": draws for i, effect in enumerate(found.groups.values()) for j, draws in enumerate(effect.via.values())
    }
    arrays |= {"baseline": found.baseline, "prediction": found.prediction, "observed": found.observed}
    spends = [effect.spend if effect.spend is not None else np.full(len(found.dates), np.nan) for effect in found.groups.values()]
    prices = [np.full(len(found.dates), np.nan) if each is None else each for each in (found.prices, found.profits)]
    np.savez(
        folder / "effects.npz",
        dates=np.array(written(found.dates)),
        nodes=np.array(list(found.groups)),
        mediators=np.array(list(next(iter(found.groups.values())).via), dtype=np.str_),
        kinds=np.array([effect.kind for effect in found.groups.values()]),
        spends=np.array(spends),
        prices=np.array(prices),
        **arrays,
    )
    for path in (*folder.iterdir(), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# The table is a dataset of the catalogue, of its team alone.
README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: effects.parquet
private: true
---
{title}: what each cause brought on each date. Made by Sluice; do not edit.
"""

SCHEMA = pa.schema(
    [
        ("Date", pa.date32()),
        ("Node", pa.string()),
        *((name, pa.float64()) for name in ("Mean", "P5", "P50", "P95", "DirectMean", "Revenue", "Profit", "Spend")),
    ]
)


def rows(found: Attributed) -> list[dict[str, Any]]:
    """The table by date: a row for each date and node, then those of baseline, prediction, observed and residual."""
    table: list[dict[str, Any]] = []
    for name, effect in found.groups.items():
        table += _rows(found, name, effect.total, effect.direct.mean(axis=0), effect.spend)
    table += _rows(found, "Baseline", found.baseline) + _rows(found, "Prediction", found.prediction)
    table += _rows(found, "Observed", found.observed[None]) + _rows(found, "Residual", found.observed - found.prediction)
    return sorted(table, key=lambda row: row["Date"])


def _rows(
    found: Attributed, name: str, draws: Array, direct: Array | None = None, spend: Array | None = None
) -> list[dict[str, Any]]:
    mean = draws.mean(axis=0)
    low, middle, high = np.quantile(draws, LEVELS, axis=0)
    money = [None if each is None else mean * each for each in (found.prices, found.profits)]
    columns = {"Mean": mean, "P5": low, "P50": middle, "P95": high, "DirectMean": direct, "Spend": spend}
    columns |= {"Revenue": money[0], "Profit": money[1]}
    return [
        {"Date": date, "Node": name, **{key: None if values is None else number(values[i]) for key, values in columns.items()}}
        for i, date in enumerate(found.dates.tolist())
    ]
