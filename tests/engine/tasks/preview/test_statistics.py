"""Figures of columns, held against those that are known."""

import datetime
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests import corpora
from tests.engine.tasks.preview.asking import Datasets
from tests.fixtures.preview import front_matter, json_lines, parquet, picture, wav


def statistics(datasets: Datasets, values: list[Any]) -> tuple[str, dict[str, Any]]:
    datasets.lay("d", {"a.jsonl": json_lines([{"a": value} for value in values])})
    return datasets.prepare("d").statistics()["a"]


@corpora.needs(corpora.PENGUINS)
def test_the_penguins_have_their_known_figures(datasets: Datasets) -> None:
    datasets.lay("penguins", {"penguins.csv": corpora.penguins()})
    shown = datasets.rows("penguins")
    assert (shown.types["bill_length_mm"], shown.types["flipper_length_mm"]) == ("FLOAT", "INT")
    assert shown.rows[3]["bill_length_mm"] is None
    assert (len(shown.modern["features"]), shown.modern["truncated"]) == (8, True)
    prepared = datasets.prepare("penguins")
    told, body, _ = prepared.page(300, 100)
    assert (len(body["rows"]), body["num_rows_total"], told["num_rows"]) == (44, 344, 44)
    found = prepared.statistics()
    kind, bill = found["bill_length_mm"]
    histogram = bill.pop("histogram")
    assert (kind, bill) == (
        "float",
        {
            **{"nan_count": 2, "nan_proportion": 0.00581, "min": 32.1, "max": 59.6},
            **{"mean": 43.92193, "median": 44.45, "std": 5.45958},
        },
    )
    assert histogram["hist"] == [9, 40, 57, 48, 49, 55, 61, 16, 5, 2]
    assert found["island"] == (
        "string_label",
        {
            **{"nan_count": 0, "nan_proportion": 0.0, "no_label_count": 0, "no_label_proportion": 0.0, "n_unique": 3},
            "frequencies": {"Biscoe": 168, "Dream": 124, "Torgersen": 52},
        },
    )


def test_integers_have_bins_of_one_whole_size(datasets: Datasets) -> None:
    kind, figures = statistics(datasets, [*range(25), None])
    assert kind == "int"
    assert figures["histogram"] == {"hist": [3, 3, 3, 3, 3, 3, 3, 3, 1], "bin_edges": [0, 3, 6, 9, 12, 15, 18, 21, 24, 24]}
    assert (figures["min"], figures["max"], figures["mean"], figures["median"], figures["nan_count"]) == (0, 24, 12.0, 12.0, 1)


@pytest.mark.parametrize("values", [[5], [-(2**63), 2**63 - 1], [3, 3, 3]])
def test_integers_of_any_range_have_a_histogram(datasets: Datasets, values: list[int]) -> None:
    figures = statistics(datasets, values)[1]
    assert sum(figures["histogram"]["hist"]) == len(values)
    assert len(figures["histogram"]["bin_edges"]) == len(figures["histogram"]["hist"]) + 1


@pytest.mark.parametrize(
    "values",
    [[0.5], [1e-300, 1e300], [-1.5e308, 1.5e308], [0.1 * i for i in range(101)], [0.0, 1.0, 0.3, 0.7]],
    ids=["one", "wide", "widest", "edges", "few"],
)
def test_floats_have_the_histogram_of_numpy(datasets: Datasets, values: list[float]) -> None:
    figures = statistics(datasets, values)[1]
    if len(values) > 2:
        assert figures["histogram"]["hist"] == np.histogram(values, bins=10)[0].tolist()
    assert sum(figures["histogram"]["hist"]) == len(values)


def test_nan_counts_as_null_and_infinities_are_left_out(datasets: Datasets) -> None:
    table = pa.table({"a": [0.5, 1.5, float("nan"), float("inf"), None]})
    datasets.lay("d", {"a.parquet": parquet(table)})
    _, figures = datasets.prepare("d").statistics()["a"]
    assert (figures["nan_count"], figures["nan_proportion"], figures["max"], figures["std"]) == (2, 0.4, 1.5, 0.70711)
    assert sum(figures["histogram"]["hist"]) == 2


def test_an_empty_column_has_no_figures_and_no_histogram(datasets: Datasets) -> None:
    readme = front_matter(
        "dataset_info: {features: [{name: f, dtype: float64}, {name: t, dtype: string}, {name: n, dtype: int64}]}"
    )
    datasets.lay("d", {"README.md": readme, "a.jsonl": "{}\n{}\n"})
    nothing = dict.fromkeys(("min", "max", "mean", "median", "std", "histogram"))
    for _, figures in datasets.prepare("d").statistics().values():
        assert figures == {"nan_count": 2, "nan_proportion": 1.0, **nothing}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a"] * 3, "string_label"),
        ([f"t{i}" for i in range(10)], "string_label"),
        ([f"t{i}" for i in range(11)], "string_text"),
        ([f"t{i % 20}" for i in range(100)], "string_label"),
        ([f"t{i % 21}" for i in range(100)], "string_text"),
        ([f"t{i % 1000}" for i in range(5000)], "string_label"),
        ([f"t{i % 1001}" for i in range(6000)], "string_text"),
    ],
    ids=["one", "ten", "eleven", "a fifth", "more", "thousand", "beyond"],
)
def test_a_few_different_texts_are_labels(datasets: Datasets, values: list[str], kind: str) -> None:
    assert statistics(datasets, values)[0] == kind


def test_long_texts_are_no_labels(datasets: Datasets) -> None:
    kind, figures = statistics(datasets, ["x" * 1000, "y"])
    assert (kind, len(figures["frequencies"])) == ("string_label", 2)
    kind, figures = statistics(datasets, ["x" * 1001, "y"])
    assert (kind, figures["max"]) == ("string_text", 1001)


def test_texts_have_lengths_in_characters(datasets: Datasets) -> None:
    kind, figures = statistics(datasets, ["\u20ac" * i for i in range(1, 13)])
    assert (kind, figures["min"], figures["max"], figures["mean"]) == ("string_text", 1, 12, 6.5)


def test_classes_truths_lists_and_times_have_theirs(datasets: Datasets) -> None:
    readme = front_matter("dataset_info: {features: [{name: label, dtype: {class_label: {names: [bad, good]}}}]}")
    rows = [{"label": label} for label in (1, 1, 0, -1, None)]
    datasets.lay("labels", {"README.md": readme, "a.jsonl": json_lines(rows)})
    assert datasets.prepare("labels").statistics()["label"] == (
        "class_label",
        {
            **{"nan_count": 1, "nan_proportion": 0.2, "no_label_count": 1, "no_label_proportion": 0.2, "n_unique": 2},
            "frequencies": {"bad": 1, "good": 2},
        },
    )
    assert statistics(datasets, [True, None, False, True]) == (
        "bool",
        {"nan_count": 1, "nan_proportion": 0.25, "frequencies": {"True": 2, "False": 1}},
    )
    for values in ([[1], [2, 3], None], [[1], ["x", {}], None]):
        kind, figures = statistics(datasets, values)
        assert (kind, figures["min"], figures["max"], figures["nan_count"]) == ("list", 1, 2, 1)
    table = pa.table(
        {"at": [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 3)], "day": [datetime.date(2020, 1, 1), None]}
    )
    datasets.lay("times", {"a.parquet": parquet(table)})
    found = datasets.prepare("times").statistics()
    assert found["at"][0] == "datetime"
    assert (found["at"][1]["min"], found["at"][1]["mean"]) == ("2020-01-01T00:00:00", "2020-01-02T00:00:00")
    assert (found["day"][1]["max"], found["day"][1]["nan_count"]) == ("2020-01-01T00:00:00", 1)


def test_objects_and_mixtures_have_no_figures(datasets: Datasets) -> None:
    datasets.lay("d", {"a.jsonl": json_lines([{"a": {"x": 1}, "b": 1, "c": 2}, {"a": {}, "b": "x", "c": 3}])})
    assert [*datasets.prepare("d").statistics()] == ["c"]


def test_pictures_have_widths_and_sounds_seconds(datasets: Datasets) -> None:
    datasets.lay("pics", {"a.png": picture(size=(8, 6)), "b.png": picture(size=(10, 6)), "c.png": b"broken"})
    kind, figures = datasets.prepare("pics").statistics()["image"]
    assert (kind, figures["min"], figures["max"], figures["nan_count"]) == ("image", 8, 10, 1)
    datasets.lay("tones", {"a.wav": wav(0.5)})
    kind, figures = datasets.prepare("tones").statistics()["audio"]
    assert (kind, figures["max"]) == ("audio", 0.5)


def test_a_split_without_rows_has_figures_of_nothing(datasets: Datasets) -> None:
    datasets.lay("d", {"a.csv": "a,b\n"})
    assert json.loads(json.dumps(datasets.prepare("d").statistics())) == {}
