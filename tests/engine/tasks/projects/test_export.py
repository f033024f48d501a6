"""The exported graph: served as any other model, it says what numpy says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.repository.config import parse_config
from engine.tasks.projects import export
from engine.tasks.projects.density import Density
from engine.tasks.projects.fitted import Fitted
from engine.tasks.projects.readings import Readings
from engine.tasks.projects.scenarios import Scenarios
from engine.tasks.projects.sources import Dataset
from engine.tasks.publishing import check
from engine.tasks.scoring.model import LoadedModel
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data


def windows(fitted: Fitted, data: Data, config: dict[str, Any]) -> tuple[Readings, list[dict[str, Any]]]:
    """The readings of a model and the record of every period of the data, with what lies before its start as 0."""
    dataset = Dataset(data.files, sets.COMBINATION)
    readings, _ = Readings.of(fitted.instance, dataset)
    width = config["inputs"][-1]["window"]
    names = export.input_names(fitted.instance)
    records = []
    for end in range(len(readings.periods)):
        record: dict[str, Any] = {"date": str(readings.periods.starts[end])}
        for node, name in names.items():
            series = readings.raw[node] if node in readings.raw else readings.observed[node]
            record[name] = np.concatenate([np.zeros(width), series[: end + 1]])[-width:].tolist()
        records.append(record)
    return readings, records


@pytest.mark.parametrize("which", ["plain", "mediated"])
def test_the_served_graph_says_what_numpy_says(which: str, data: Data, model: Path, mediated: tuple[Data, Path]) -> None:

    data, model = (data, model) if which == "plain" else mediated
    config = json.loads((model / "config.json").read_bytes())
    served = LoadedModel("acme/demo@1", model, config)
    fitted = Fitted.read(model)
    readings, records = windows(fitted, data, config)
    feeds, faults = served.tensors(records)
    assert not faults
    chosen = fitted.spaced(40)
    scenarios, scale = Scenarios(chosen, readings), fitted.instance.target.params["scale"]
    for count in (0, 1, 33):
        prediction, _, contributions, band = served.values({name: values[:count] for name, values in feeds.items()})
        assert prediction == pytest.approx(scenarios.prediction.mean(axis=0)[:count] * scale, abs=1e-5 * scale)
        assert contributions.sum(axis=1) == pytest.approx(prediction, abs=1e-5 * scale)
        assert band.shape == (count, contributions.shape[1], 2)
    at_reference = export.terms_at_reference(chosen)
    terms = export.term_nodes(fitted.instance)
    for place, name in enumerate(export.labels(fitted.instance)[:-1]):
        own = [scenarios.terms(term.id) - at_reference[term.id][:, None] for term in terms if term.group == name]
        expected = sum(own) * scale
        assert contributions[:, place] == pytest.approx(expected.mean(axis=0)[:33], abs=1e-5 * scale)
        quantile = np.quantile(expected, [0.05, 0.95], axis=0, method="inverted_cdf")[:, :33].T
        assert band[:, place] == pytest.approx(quantile, abs=1e-5 * scale)


def test_a_mediator_that_is_not_given_is_predicted(mediated: tuple[Data, Path]) -> None:

    data, model = mediated
    config = json.loads((model / "config.json").read_bytes())
    served = LoadedModel("acme/demo@1", model, config)
    _, records = windows(Fitted.read(model), data, config)
    given, scenario = dict(records[50]), {**records[50], "search": None}
    feeds, faults = served.tensors([given, scenario, {**given, "tv": None}, {**given, "date": "2019-01-01"}])
    assert {index: fault.code for index, fault in faults.items()} == {2: "missing_field", 3: "out_of_range"}
    prediction = served.values(feeds)[0]
    assert prediction[0] != prediction[1]
    assert prediction[1] == pytest.approx(prediction[0], rel=0.1)


def test_the_config_of_a_model_is_one_that_is_published(model: Path) -> None:

    config = parse_config((model / "config.json").read_bytes())
    asked = {"folder": str(model), "owner": "acme", "name": config.name, "config": config.as_dict(), "data": []}
    assert check.check(asked)["parts"] == [{"size": 0, "config": {}, "warnings": []}]


def test_the_density_sees_the_same_prediction_as_scenarios(mediated: tuple[Data, Path]) -> None:

    data, model = mediated
    fitted = Fitted.read(model)
    density, readings, is_train = data.density(fitted.instance)
    assert isinstance(density, Density)
    expected = Scenarios(fitted.spaced(5), readings).prediction[:, is_train]
    assert density.forward(fitted.spaced(5).draws) == pytest.approx(expected, rel=1e-9)
