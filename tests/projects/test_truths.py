"""Sets whose truth is known, from files to answers: what is published about them holds."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests import corpora
from tests.engine.tasks.projects import sets
from tests.projects import files
from tests.projects.asking import Client, codes

HMC: dict[str, Any] = {"inference": "hmc", "epochs": 100}


def totals(client: Client, model: dict[str, Any], samples: int = 400) -> dict[str, dict[str, Any]]:
    """The entries of an attribution of the training dates, by node."""
    first, last = model["TrainDates"][0], model["TrainDates"][-1]
    answer = client.attributed(model["IId"], model["DataSet"]["IId"], first, last, samples)
    return {entry["Node"]: entry for entry in answer["Totals"]}


@corpora.needs(corpora.PYMC_MARKETING)
def test_intervals_of_the_return_on_spend_cover_the_true_ones(client: Client, tmp_path: Path) -> None:
    data = sets.roas(tmp_path)
    model = client.built(client.dataset(files.of(data)), **HMC)
    assert model["Diagnostics"]["Converged"] is True
    found = totals(client, model)
    for name, truth in data.truth.items():
        roi = found[f"media.{name}"]["Roi"]
        assert roi["P5"] < truth < roi["P95"]


@corpora.needs(corpora.PYMC_MARKETING)
def test_the_last_half_year_of_the_example_is_predicted(client: Client, tmp_path: Path) -> None:
    dataset = client.dataset(files.of(sets.example(tmp_path)))
    model = client.built(dataset, held_out=26, **HMC)
    assert model["Metrics"]["Eval"]["R2"] >= 0.90
    assert len(model["EvalDates"]) == 26


@corpora.needs(corpora.ROBYNPY)
def test_two_events_that_happen_once_are_learnt_by_one_node(client: Client, tmp_path: Path) -> None:
    data = sets.robyn(tmp_path)
    model = client.built(client.dataset(files.of(data)), sets.robyn_graph(data), held_out=30, **HMC)
    assert model["Metrics"]["Eval"]["R2"] >= 0.95


def test_a_graph_with_its_mediator_finds_what_a_flat_one_misses(client: Client, tmp_path: Path) -> None:
    data = sets.mediated(tmp_path, 0)
    dataset = client.dataset(files.of(data))
    flat = sets.star(sets.node("tv", "media"), sets.node("search", "media"), sets.SEASONALITY)
    right = totals(client, client.built(dataset, sets.mediated_graph(), **HMC))["tv"]
    wrong = totals(client, client.built(dataset, flat, inference="vi", epochs=100))["tv"]
    assert right["Total"]["Mean"] == pytest.approx(data.truth["tv"], rel=0.25)
    assert right["Total"]["P5"] < data.truth["tv"] < right["Total"]["P95"]
    assert [via["Mediator"] for via in right["Via"]] == ["search"]
    assert wrong["Total"]["Mean"] < 0.65 * data.truth["tv"]


def test_channels_of_nearly_the_same_spend_are_named_and_independent_ones_are_not(client: Client, tmp_path: Path) -> None:
    model = client.built(client.dataset(files.of(sets.twins(tmp_path))), **HMC)
    told = [warning for warning in model["Warnings"] if warning["Code"] == "not_separable"]
    [together] = [warning for warning in told if "media.tv (" in warning["Message"] and "media.twin (" in warning["Message"]]
    ranges = re.findall(r"(-?[\d.]+(?:e[+-]\d+)?) to (-?[\d.]+(?:e[+-]\d+)?)", together["Message"])
    one, other, both = (float(high) - float(low) for low, high in ranges)
    assert both < min(one, other)
    assert not any("media.radio" in warning["Message"] for warning in told)
    assert "high_correlation" in codes(model["Warnings"])
