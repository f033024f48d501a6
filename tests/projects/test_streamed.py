"""A fitted model is served as any other: windows are streamed through it, and it says what an attribution says."""

import json
from typing import Any

import pytest

from tests.clients import by_id
from tests.engine.tasks.projects import sets
from tests.projects.asking import made, new_project
from tests.projects.files import Sheet
from tests.projects.house import Full, filled
from tests.serving import Server

Record = dict[str, Any]
# An exported graph has 100 of the draws, and an attribution of these tests has all 400.
OTHER_DRAWS = 0.01


@pytest.fixture(scope="module")
def served(server: Server, plain: dict[str, Sheet]) -> Full:
    """Two channels, a control, season and trend; built as the script builds, with intervals from VI."""
    nodes = [sets.node("tv", "media"), sets.node("radio", "media"), sets.node("income", "control", "Extra")]
    return filled(new_project(server), plain, sets.star(*nodes, sets.SEASONALITY, sets.TREND))


def series(sheet: Sheet, name: str) -> list[float]:
    return [float(row[-1]) for row in sheet.rows if name in row]  # type: ignore[arg-type]


def windows(full: Full, sheets: dict[str, Sheet], nodes: dict[str, str]) -> list[Record]:
    """The record of every period, from its first on with zeros before the data begin. `nodes` has the type of each node's data."""
    width = full.model["Served"]["Window"]
    values = {node: [0.0] * width + series(sheets[kind], node) for node, kind in nodes.items()}
    return [
        {"yhat_id": date, "date": date, **{node: row[end + 1 : end + 1 + width] for node, row in values.items()}}
        for end, date in enumerate(full.dates)
    ]


PLAIN = {"tv": "Media", "radio": "Media", "income": "Extra"}


def streamed(full: Full, records: list[Record]) -> dict[str, dict[str, Any]]:
    """The lines of the answer by yhat_id."""
    owner, name = full.model["Served"]["Name"].split("/")
    body = "".join(json.dumps(record) + "\n" for record in records)
    answer = full.client.but(base="").ask("POST", f"/{owner}/models/{name}/?bulk=true", data=body)
    assert answer.status_code == 200, answer.text
    return by_id(answer.content)


def assert_as_attributed(full: Full, lines: dict[str, dict[str, Any]]) -> None:
    rows = full.client.by_date(full.attribution["IId"])
    expected = {row["Date"]: row["Mean"] for row in rows if row["Node"] == "Prediction"}
    assert lines.keys() == expected.keys()
    for date, line in lines.items():
        result = line["result"]
        assert result["prediction"] == pytest.approx(expected[date], rel=OTHER_DRAWS)
        assert sum(result["contributions"].values()) == pytest.approx(result["prediction"], rel=1e-4)
        low, high = result["interval"]
        assert low < result["prediction"] < high
        assert len(result["contribution_interval"]) == len(result["contributions"])


def test_each_week_is_predicted_as_the_attribution_has_it(served: Full, plain: dict[str, Sheet]) -> None:
    assert_as_attributed(served, streamed(served, windows(served, plain, PLAIN)))


def test_a_mediator_may_be_given_or_left_to_the_model(full_mediated: Full, mediated: dict[str, Sheet]) -> None:
    records = windows(full_mediated, mediated, {"tv": "Media", "search": "Media"})
    assert_as_attributed(full_mediated, streamed(full_mediated, records))
    left = {**records[80], "search": None}
    nowcast, scenario = (streamed(full_mediated, [record])[left["yhat_id"]]["result"] for record in (records[80], left))
    assert scenario["prediction"] != nowcast["prediction"]
    assert scenario["prediction"] == pytest.approx(nowcast["prediction"], rel=0.1)


def test_a_window_says_the_same_alone_and_among_others(served: Full, plain: dict[str, Sheet]) -> None:
    records = windows(served, plain, PLAIN)[:33]
    together = streamed(served, records)
    for record in (records[0], records[-1]):
        alone = streamed(served, [record])[record["yhat_id"]]["result"]
        assert alone["prediction"] == pytest.approx(together[record["yhat_id"]]["result"]["prediction"], rel=1e-5)
    assert streamed(served, []) == {}


def test_without_media_they_bring_nothing_and_one_spike_decays(served: Full, plain: dict[str, Sheet]) -> None:
    width = served.model["Served"]["Window"]
    last = windows(served, plain, PLAIN)[-1]
    silent = last | {"yhat_id": "silent", "tv": [0] * width, "radio": [0] * width}
    spikes = [silent | {"yhat_id": str(ago), "tv": [0] * (width - 1 - ago) + [9000] + [0] * ago} for ago in range(width)]
    lines = streamed(served, [silent, *spikes])
    assert lines["silent"]["result"]["contributions"]["tv"] == pytest.approx(0, abs=1e-3)
    effects = [lines[str(ago)]["result"]["contributions"]["tv"] for ago in range(width)]
    assert effects[0] > 0
    assert effects == sorted(effects, reverse=True)
    others = {name for name in lines["silent"]["result"]["contributions"] if name != "tv"}
    for name in others:
        same = lines["silent"]["result"]["contributions"][name]
        assert lines["0"]["result"]["contributions"][name] == pytest.approx(same, rel=1e-6)


def test_bad_records_among_good_ones_are_error_lines(served: Full, plain: dict[str, Sheet]) -> None:
    good = windows(served, plain, PLAIN)
    base = good[-1]
    bad = {
        "short": (base | {"tv": base["tv"][1:]}, "wrong_length"),
        "no date": ({key: value for key, value in base.items() if key != "date"}, "missing_field"),
        "no day": (base | {"date": "next week"}, "wrong_type"),
        "number": (base | {"date": 20180107}, "wrong_type"),
        "tuesday": (base | {"date": "2018-01-09"}, "out_of_range"),
        "no tv": ({key: value for key, value in base.items() if key != "tv"}, "missing_field"),
        "null inside": (base | {"tv": [None, *base["tv"][1:]]}, "missing_field"),
        "text inside": (base | {"tv": ["1", *base["tv"][1:]]}, "wrong_type"),
    }
    mixed = [
        record for pair in zip(good, (one | {"yhat_id": name} for name, (one, _) in bad.items()), strict=False) for record in pair
    ]
    lines = streamed(served, mixed)
    assert len(lines) == len(mixed)
    assert {name: lines[name]["code"] for name in bad} == {name: code for name, (_, code) in bad.items()}
    assert all("result" in lines[record["yhat_id"]] for record in good[: len(bad)])


def test_the_example_of_the_model_is_its_last_training_window(served: Full, plain: dict[str, Sheet]) -> None:
    title = served.model["Served"]["Name"]
    shown = made(served.client.but(base="").ask("GET", f"/api/models/{title}"), 200)
    example = shown["example"]
    assert example["date"] == served.dates[-1]
    assert example["tv"] == pytest.approx(windows(served, plain, PLAIN)[-1]["tv"])
