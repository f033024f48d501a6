"""Fits of many sets whose truth is known. One of each kind, and the public sets, go through the front door: tests/projects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data


def fitted(data: Data, folder: Path, graph: Any = None, held_out: int = 0) -> dict[str, Any]:
    """The answer of `fit`, whose model is in the folder."""
    split = len(data.dates) - held_out
    instance = data.check(graph, slice(0, split), slice(split, None))["Instance"]
    dates = {"train_dates": data.dates[:split], "eval_dates": data.dates[split:]}
    part, body, _ = sets.task("fit", sets.fit_header(data, instance, folder, inference="hmc", epochs=100, **dates))
    assert "refused" not in part, part
    answer: dict[str, Any] = sets.values(part, body)["figures"]
    return answer


def totals(data: Data, model: Path) -> dict[str, dict[str, Any]]:
    """The entry of each node in the attribution of all dates."""
    folder = model.parent / f"{model.name}-attribution"
    folder.mkdir()
    asked = {"model": str(model), "files": data.files, "start_date": data.dates[0], "end_date": data.dates[-1]}
    _, body, _ = sets.task("attribute", {**asked, "samples": 400, "title": "a", "folder": str(folder)})
    return {entry["Node"]: entry for entry in json.loads(body)["Totals"]}


def calibration(folder: Path, seed: int) -> Data:
    """156 weeks of four channels with parameters from the priors; `truth` has each channel's total."""
    random = np.random.default_rng(seed)
    count = 156
    media = {f"c{i}": np.where(random.uniform(size=count) < 0.7, random.gamma(2, 1, count), 0.0) * 1000 for i in range(4)}
    sales = np.full(count, random.normal(0.7, 0.1))
    shares = {}
    for name, x in media.items():
        u = sets.adstocked(x / x.max(), random.beta(2, 2))
        half = np.exp(random.normal(0, 0.8)) * (x / x.max()).mean()
        slope = np.exp(random.normal(0.2, 0.4))
        h = u**slope / (u**slope + half**slope)
        shares[name] = abs(random.normal(0, 0.15))
        sales = sales + shares[name] * h / h.mean()
    sales = sales + random.normal(0, 0.05, count)
    data = sets.written(folder, sets.weeks(count), 1000 * sales, media=media)
    data.truth = {name: 1000 * share * count for name, share in shares.items()}
    return data


def num_covered(folder: Path, seed: int) -> int:
    """How many of the four channels have their true total in its 90 % interval."""
    data = calibration(folder / "data", seed)
    fitted(data, folder / "model", sets.star(*(sets.node(name, "media") for name in data.truth)))
    found = totals(data, folder / "model")
    return sum(found[name]["Total"]["P5"] < truth < found[name]["Total"]["P95"] for name, truth in data.truth.items())


def test_intervals_cover_most_truths_of_one_set(tmp_path: Path) -> None:
    assert num_covered(tmp_path, 0) >= 3


@pytest.mark.heavy
def test_intervals_cover_the_truths_of_sixteen_sets(tmp_path: Path) -> None:
    assert sum(num_covered(tmp_path / str(seed), seed) for seed in range(16)) >= 0.80 * 64


def mediated(folder: Path, seed: int) -> tuple[float, bool, float]:
    """The graph's total of TV as a share of the truth, whether its interval covers it, and the share of the flat model."""
    data = sets.mediated(folder / "data", seed)
    fitted(data, folder / "graph", sets.mediated_graph())
    tv, truth = totals(data, folder / "graph")["tv"]["Total"], data.truth["tv"]
    flat = sets.star(sets.node("tv", "media"), sets.node("search", "media"), sets.SEASONALITY)
    fitted(data, folder / "flat", flat)
    return tv["Mean"] / truth, tv["P5"] < truth < tv["P95"], totals(data, folder / "flat")["tv"]["Total"]["Mean"] / truth


@pytest.mark.heavy
def test_mediated_effects_are_found_for_every_seed(tmp_path: Path) -> None:
    found = [mediated(tmp_path / str(seed), seed) for seed in range(4)]
    assert all(0.75 < share < 1.25 and flat < 0.65 for share, _, flat in found)
    assert sum(is_covered for _, is_covered, _ in found) >= 3
