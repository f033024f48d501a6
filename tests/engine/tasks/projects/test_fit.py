"""The tasks `fit`, `attribute` and `align`: what they write is the same every time, adds up, and tells what not to trust."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.tasks.projects import progress
from engine.tasks.projects.fitted import Fitted
from engine.tasks.stopping import Stopped, Stopping
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import SMALL_HMC, Data


def attribution(model: Path, data: Data, folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    asked = {"model": str(model), "files": data.files, "start_date": data.dates[0], "end_date": data.dates[-1], "samples": 400}
    part, body, _ = sets.task("attribute", {**asked, "title": "acme/demo-attribution-1", "folder": str(folder), **changes})
    assert "refused" not in part, part
    answer: dict[str, Any] = json.loads(body)
    return answer


def total(answer: dict[str, Any], node: str) -> dict[str, Any]:
    [found] = [entry for entry in answer["Totals"] if entry["Node"] == node]
    return found


def test_the_same_fit_twice_gives_the_same_bytes_and_another_seed_others(data: Data, model: Path, tmp_path: Path) -> None:
    instance = data.check()["Instance"]
    sets.task("fit", sets.fit_header(data, instance, tmp_path / "again", **SMALL_HMC))
    sets.task("fit", sets.fit_header(data, instance, tmp_path / "other", **SMALL_HMC, seed=1))
    for name in ("draws.npy", "model.onnx", "fitted.json", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (model / name).read_bytes()
    assert (tmp_path / "other" / "draws.npy").read_bytes() != (model / "draws.npy").read_bytes()


def test_a_fit_finds_the_channels_of_a_simulated_set(data: Data, model: Path, tmp_path: Path) -> None:
    answer = attribution(model, data, tmp_path / "a")
    assert total(answer, "media.tv")["Total"]["P5"] > 0
    assert total(answer, "media.tv")["Total"]["P5"] < data.truth["tv"] < total(answer, "media.tv")["Total"]["P95"]


def test_baseline_and_effects_add_up_to_the_prediction_on_every_date(data: Data, model: Path, tmp_path: Path) -> None:
    attribution(model, data, tmp_path / "a")
    assert_additive(tmp_path / "a")


def assert_additive(folder: Path) -> None:
    kept = np.load(folder / "effects.npz")
    effects = sum(kept[f"effect{i}"] for i in range(len(kept["nodes"])))
    assert kept["baseline"] + effects == pytest.approx(kept["prediction"], rel=1e-9)
    rows = pq.read_table(folder / "effects.parquet").to_pylist()
    by_date: dict[Any, dict[str, float]] = {}
    for row in rows:
        by_date.setdefault(row["Date"], {})[row["Node"]] = row["Mean"]
    for means in by_date.values():
        parts = [value for name, value in means.items() if name not in ("Prediction", "Observed", "Residual")]
        assert sum(parts) == pytest.approx(means["Prediction"], rel=1e-9)


def test_effects_through_a_mediator_add_up_and_are_told_by_mediator(mediated: tuple[Data, Path], tmp_path: Path) -> None:
    data, model = mediated
    answer = attribution(model, data, tmp_path / "a")
    assert_additive(tmp_path / "a")
    for entry in answer["Totals"]:
        assert entry["Total"]["Mean"] == pytest.approx(entry["Direct"]["Mean"] + entry["Mediated"]["Mean"], rel=1e-9)
        assert entry["Mediated"]["Mean"] == pytest.approx(sum(via["Mean"] for via in entry["Via"]), abs=1e-6)
    tv = total(answer, "tv")
    assert tv["Mediated"]["Mean"] > tv["Direct"]["Mean"] > 0
    assert tv["Total"]["Mean"] == pytest.approx(data.truth["tv"], rel=0.25)
    assert total(answer, "search")["Mediated"]["Mean"] == pytest.approx(0.0, abs=1e-9)


def test_groups_that_meet_above_saturation_share_their_effect_and_still_add_up(tmp_path: Path) -> None:
    data = sets.mediated(tmp_path / "data", 1, count=60)
    graph = sets.mediated_graph()
    graph["edges"][2]["shape"] = "media"
    sets.task("fit", sets.fit_header(data, data.check(graph)["Instance"], tmp_path / "model"))
    attribution(tmp_path / "model", data, tmp_path / "a", samples=20)
    assert_additive(tmp_path / "a")


def test_a_response_curve_is_0_without_spend_and_at_factor_1_the_attribution(data: Data, tmp_path: Path) -> None:
    part, body, _ = sets.task("fit", sets.fit_header(data, data.check()["Instance"], tmp_path / "model"))
    answer = attribution(tmp_path / "model", data, tmp_path / "a")
    for curve in sets.values(part, body)["response"]:
        means = [point["Effect"]["Mean"] for point in curve["Points"]]
        assert means[0] == 0
        assert means == sorted(means)
        assert means[10] == pytest.approx(total(answer, curve["Node"])["Total"]["Mean"], rel=1e-6)
        assert [point["Seen"] for point in curve["Points"]] == [True] * 11 + [False] * 10


def test_money_follows_the_price_of_the_date_and_is_null_without_spend(data: Data, model: Path, tmp_path: Path) -> None:
    answer = attribution(model, data, tmp_path / "a", start_date=data.dates[20], end_date=data.dates[39])
    tv = total(answer, "media.tv")
    assert tv["Roi"]["Mean"] == pytest.approx(tv["Revenue"]["Mean"] / tv["Spend"])
    assert tv["MRoi"]["Mean"] > 0
    assert tv["CarryIn"] > 0
    assert tv["CarryOver"] > 0
    assert total(answer, "control.income")["Roi"] is None


def test_a_refit_keeps_the_scales_and_starts_where_its_parent_ended(data: Data, model: Path, tmp_path: Path) -> None:
    header = sets.fit_header(data, data.check()["Instance"], tmp_path / "child", **SMALL_HMC, parent=str(model), seed=3)
    part, body, _ = sets.task("fit", header)
    assert "refused" not in part
    answer = sets.values(part, body)["figures"]
    parent, child = Fitted.read(model), Fitted.read(tmp_path / "child")
    assert child.instance.as_dict() == parent.instance.as_dict()
    for row in answer["Drift"]:
        if row["Node"].startswith("media"):
            assert abs(row["RelativeChange"]) < 0.25
    later = sets.fit_header(data, {}, tmp_path / "grandchild", parent=str(tmp_path / "child"), train_dates=data.dates[:50])
    assert "refused" not in sets.task("fit", later)[0]
    assert Fitted.read(tmp_path / "grandchild").instance.as_dict() == parent.instance.as_dict()


def test_an_attribution_after_the_training_dates_takes_new_data(data: Data, tmp_path: Path) -> None:
    instance = data.check(train=slice(0, 40))["Instance"]
    sets.task("fit", sets.fit_header(data, instance, tmp_path / "model", train_dates=data.dates[:40]))
    answer = attribution(tmp_path / "model", data, tmp_path / "a", start_date=data.dates[45], end_date=data.dates[50])
    assert answer["StartDate"] == data.dates[45]
    assert answer["Prediction"]["Mean"] == pytest.approx(answer["Observed"], rel=0.2)


@pytest.mark.parametrize(
    ("start", "end", "fault"),
    [
        ("2031-01-05", "2031-02-02", "none between 2031-01-05 and 2031-02-02"),
        ("2018-01-08", "2018-01-09", "none between 2018-01-08 and 2018-01-09"),
        ("2018-01-07", "2031-02-02", "and end_date 2031-02-02 is later"),
    ],
)
def test_dates_that_the_data_does_not_have_are_refused_and_the_fault_is_told(
    data: Data, model: Path, tmp_path: Path, start: str, end: str, fault: str
) -> None:
    asked = {"model": str(model), "files": data.files, "start_date": start, "end_date": end}
    part, _, _ = sets.task("attribute", {**asked, "samples": 20, "title": "a", "folder": str(tmp_path / "a")})
    assert part["refused"]["code"] == "bad_range"
    assert part["refused"]["message"] == f"The data has periods from {data.dates[0]} to {data.dates[-1]}, {fault}."


def test_a_set_takes_each_date_from_the_attribution_named_first(data: Data, model: Path, tmp_path: Path) -> None:
    attribution(model, data, tmp_path / "new", start_date=data.dates[20], end_date=data.dates[39], samples=40)
    attribution(model, data, tmp_path / "old", start_date=data.dates[0], end_date=data.dates[29], samples=100)
    named = [
        {
            "iid": i,
            "folder": str(tmp_path / name),
            "combination": sets.COMBINATION,
            "target_metric": "UnitsSold",
            "frequency": "weekly",
        }
        for i, name in enumerate(("new", "old"))
    ]
    _part, body, _ = sets.task("align", {"attributions": named})
    answer = json.loads(body)
    assert (answer["FirstDate"], answer["LastDate"]) == (data.dates[0], data.dates[39])
    assert [entry["Periods"] for entry in answer["Combinations"]] == [40]
    named[1]["combination"] = ["NOR", "all", "all"]
    _, body, _ = sets.task("align", {"attributions": named})
    assert json.loads(body)["FirstDate"] == data.dates[20]
    attribution(model, data, tmp_path / "apart", start_date=data.dates[50], end_date=data.dates[55], samples=40)
    named[1]["folder"] = str(tmp_path / "apart")
    assert sets.task("align", {"attributions": named})[0]["refused"]["code"] == "no_common_dates"


def test_a_fit_tells_its_progress_and_stops_when_nobody_wants_it(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    header = sets.fit_header(data, data.check()["Instance"], tmp_path / "model", **SMALL_HMC)
    _, _, frames = sets.task("fit", header)
    stages = list(dict.fromkeys(frame["progress"]["Stage"] for frame in frames))
    assert stages == ["map", "laplace", "vi", "hmc", "export"]
    assert all(0 <= frame["progress"]["Done"] <= frame["progress"]["Total"] for frame in frames)
    answer = sets.FAMILIES.task("projects", "fit")(header, memoryview(b""))
    assert not isinstance(answer, tuple)
    next(answer)
    sets.FAMILIES.the(Stopping).is_asked = True
    with pytest.raises(Stopped):
        list(answer)


def test_channels_with_nearly_the_same_spend_cannot_be_told_apart(tmp_path: Path) -> None:
    data = sets.twins(tmp_path / "data")
    part, _, _ = sets.task("fit", sets.fit_header(data, data.check()["Instance"], tmp_path / "model", **SMALL_HMC))
    told = [warning["Message"] for warning in part["warnings"] if warning["Code"] == "not_separable"]
    assert any("media.tv (" in message and "media.twin (" in message for message in told)
    assert not any("media.radio" in message for message in told)


def test_a_failed_start_names_the_parameter(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = data.check()["Instance"]
    for node in instance["nodes"]:
        if node["op"] == "observe":
            node["params"]["scale"] = 1e-300
    part, _, _ = sets.task("fit", sets.fit_header(data, instance, tmp_path / "model"))
    assert part["refused"]["code"] == "fit_diverged"
    assert part["refused"]["details"][0]["Node"]
