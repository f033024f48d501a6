"""Plots are well-formed, the same every time, name every group once, and are safe whatever a name contains; and tables by date."""

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from engine.tasks.projects.attributing import SCHEMA
from engine.tasks.projects.plots_axes import ticks
from engine.tasks.projects.plots_svg import Drawing, spread
from tests.engine.tasks.projects import sets
from tests.engine.tasks.projects.sets import Data

SVG = "{http://www.w3.org/2000/svg}"
MODEL_KINDS = ("fit", "residuals", "baseline", "response")
ATTRIBUTION_KINDS = ("contributions", "waterfall")
NO_NAMES = b'{"nodes": []}'
# A model, its graph and its response curves.
Mapped = tuple[Path, bytes, bytes]


@pytest.fixture(scope="module")
def mapped(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    folder = tmp_path_factory.mktemp("mapped")
    checked = data.check(train=slice(0, 50), held_out=slice(50, 60))
    dates = {"train_dates": data.dates[:50], "eval_dates": data.dates[50:]}
    part, body, _ = sets.task("fit", sets.fit_header(data, checked["Instance"], folder, **dates))
    return folder, json.dumps(checked["Graph"]).encode(), json.dumps(sets.values(part, body)["response"]).encode()


@pytest.fixture(scope="module")
def attribution(mapped: Mapped, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attribution")
    asked = {"model": str(mapped[0]), "files": data.files, "start_date": data.dates[0], "end_date": data.dates[-1]}
    part, _, _ = sets.task("attribute", {**asked, "samples": 20, "title": "a", "folder": str(folder)})
    assert part["frequency"] == "weekly"
    return folder


def drawn(kind: str, graph: bytes, curves: bytes = b"", **asked: Any) -> bytes:
    header = {"kind": kind, "width": 960, "height": 480, "title": "Demo", "graph_bytes": len(graph), **asked}
    part, svg, _ = sets.asked("plot", header, graph + curves)
    assert "refused" not in part
    return svg


def of_model(kind: str, mapped: Mapped, data: Data, **changes: Any) -> bytes:
    folder, graph, curves = mapped
    asked = {"model": str(folder), "files": data.files, "eval_dates": data.dates[50:], **changes}
    return drawn(kind, graph, curves if kind == "response" else b"", **asked)


def labels(svg: bytes) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", MODEL_KINDS)
@pytest.mark.parametrize("size", [(200, 200), (960, 480), (4000, 4000)])
def test_a_plot_of_a_model_is_xml_of_the_wanted_size_and_the_same_every_time(
    kind: str, size: tuple[int, int], mapped: Mapped, data: Data
) -> None:
    svg = of_model(kind, mapped, data, width=size[0], height=size[1])
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == tuple(map(str, size))
    assert "nan" not in svg.decode()
    assert svg == of_model(kind, mapped, data, width=size[0], height=size[1])


@pytest.mark.parametrize("kind", ATTRIBUTION_KINDS)
def test_a_plot_of_an_attribution_names_every_group_once(kind: str, mapped: Mapped, attribution: Path) -> None:
    shown = labels(drawn(kind, mapped[1], attribution=str(attribution)))
    for node in json.loads(mapped[1])["nodes"]:
        if node["kind"] != "target":
            assert shown.count(node["name"]) == 1
    assert shown.count("Baseline") == 1


def test_a_panel_of_response_curves_has_the_name_of_its_channel(mapped: Mapped, data: Data) -> None:
    shown = labels(of_model("response", mapped, data))
    assert [name for name in shown if name in ("tv", "radio")] == ["radio", "tv"]


@pytest.mark.parametrize("name", ['<b>&"', "\x00\x1b", "a]]>", "Öl & Gas 'x'"])
def test_a_name_cannot_break_a_plot(name: str, mapped: Mapped, attribution: Path) -> None:
    graph = json.loads(mapped[1])
    for node in graph["nodes"]:
        node["name"] = name if node["id"] == "media.tv" else node["id"]
    text = json.dumps(graph).encode()
    shown = name.replace("\x00", "�").replace("\x1b", "�")
    for kind in ATTRIBUTION_KINDS:
        assert shown in labels(drawn(kind, text, attribution=str(attribution), title=name))
    assert shown in labels(drawn("response", text, mapped[2]))


def test_at_most_40_groups_are_drawn_and_the_rest_is_one(mapped: Mapped, tmp_path: Path) -> None:
    dates = [np.datetime64("2018-01-07") + 7 * number for number in range(5)]
    rows = [
        {"Date": date.item(), "Node": name, "Mean": float(place + 1)}
        for place, name in enumerate([*(f"n{number}" for number in range(50)), "Baseline", "Prediction", "Observed"])
        for date in dates
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "effects.parquet")
    for kind in ATTRIBUTION_KINDS:
        shown = labels(drawn(kind, NO_NAMES, attribution=str(tmp_path)))
        assert sorted(name for name in shown if name.startswith("n")) == [f"n{number}" for number in range(10, 50)]
        assert shown.count("other") == 1
    [curve, *_] = json.loads(mapped[2])
    many = json.dumps([{**curve, "Node": f"n{number}"} for number in range(50)]).encode()
    shown = labels(drawn("response", NO_NAMES, many))
    assert len([name for name in shown if name.startswith("n")]) == 40
    assert shown.count("other") == 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(1, 100))
def test_labels_keep_their_order_and_stand_apart_inside_the_panel(wanted: list[float], gap: float) -> None:
    places = spread(wanted, 0.0, 500.0, gap)
    ordered = sorted(places)
    room = min(gap, 500.0 / len(wanted))
    assert all(-1e-6 <= place <= 500 + 1e-6 for place in places)
    assert all(high - low >= room - 1e-6 for low, high in itertools.pairwise(ordered))
    assert [places[i] for i in sorted(range(len(wanted)), key=lambda i: wanted[i])] == ordered


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(2, 20))
def test_ticks_are_few_and_inside(low: float, width: float, count: int) -> None:
    high = low + width
    if width > abs(low) * 1e-9:
        found = ticks(low, high, count)
        assert len(found) <= count + 2
        assert all(low - width * 1e-6 <= tick <= high + width * 1e-6 for tick in found)


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    drawing = Drawing(200, 200, text)
    drawing.text((10, 10), text)
    ElementTree.fromstring(drawing.svg())


# The table by date


def test_the_table_of_an_attribution_comes_as_json_and_as_csv(attribution: Path, data: Data) -> None:
    asked = {"attribution": str(attribution), "node": None}
    _, body, _ = sets.asked("effects", {**asked, "format": "json"})
    rows = json.loads(body)
    assert list(rows[0]) == ["Date", "Node", "Mean", "P5", "P50", "P95", "DirectMean", "Revenue", "Profit", "Spend"]
    assert sorted({row["Date"] for row in rows}) == data.dates
    assert {"Baseline", "Prediction", "Observed", "Residual", "media.tv"} <= {row["Node"] for row in rows}
    _, text, _ = sets.asked("effects", {**asked, "node": "media.tv", "format": "csv"})
    found = list(csv.DictReader(io.StringIO(text.decode())))
    wanted = [row for row in rows if row["Node"] == "media.tv"]
    assert [float(row["Mean"]) for row in found] == [row["Mean"] for row in wanted]
    assert found[0]["Profit"] == ""
    part, _, _ = sets.asked("effects", {**asked, "node": "nobody", "format": "csv"})
    assert part["refused"]["code"] == "bad_field"
