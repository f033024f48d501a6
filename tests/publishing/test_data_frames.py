"""A pipeline that was fitted on a data frame takes records with the frame's own column names, from the first line to the last."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.serving import ROOT, Server


def sluice(server: Server, *arguments: object) -> str:
    place = {"SLUICE_URL": server.url, "SLUICE_KEY": server.key}
    line = [sys.executable, "-m", "server", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, env=os.environ | place, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def frame() -> pandas.DataFrame:
    """Iris, with the names that scikit-learn gives: `sepal length (cm)`, and a column of words."""
    frame: pandas.DataFrame = load_iris(as_frame=True).data
    frame["where it grew"] = ["in the sun" if i % 3 else "in the shade" for i in range(len(frame))]
    return frame


def config(graph: Any, frame: pandas.DataFrame) -> dict[str, Any]:
    """As docs/models.md shows it."""
    pairs = zip(graph.graph.input, frame.columns, strict=True)
    return {"inputs": [{"input": tensor.name, "field": column} for tensor, column in pairs]}


def test_a_frame_is_scored_as_scikit_learn_does_it(server: Server, frame: pandas.DataFrame, tmp_path: Path) -> None:
    """From the frame by Parquet and by csv, with the command, back into a frame."""
    table = load_iris()
    species = [str(table.target_names[number]) for number in table.target]
    numbers, words = [*frame.columns[:4]], [*frame.columns[4:]]
    columns = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(), words))
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, species)
    graph = to_onnx(pipeline, frame[:1], options={"zipmap": False})
    assert "sepal_length__cm_" in [tensor.name for tensor in graph.graph.input]
    (tmp_path / "flowers.onnx").write_bytes(graph.SerializeToString())
    (tmp_path / "config.json").write_text(json.dumps(config(graph, frame)))
    published = sluice(server, "model", "publish", tmp_path / "flowers.onnx", "--config", tmp_path / "config.json")
    assert published == "admin/flowers\tversion 1\n"
    frame.to_csv(tmp_path / "flowers.csv", index=False)
    frame.to_parquet(tmp_path / "flowers.parquet", index=False)
    sluice(server, "score", "admin/flowers", tmp_path / "flowers.csv", "-o", tmp_path / "out.parquet", "--quiet")
    sluice(server, "score", "admin/flowers", tmp_path / "flowers.parquet", "-o", tmp_path / "out.csv", "--quiet")
    expected = pipeline.predict_proba(frame)
    for found in (pandas.read_parquet(tmp_path / "out.parquet"), pandas.read_csv(tmp_path / "out.csv")):
        assert [*found["label"]] == [*pipeline.predict(frame)]
        rows = [json.loads(row) if isinstance(row, str) else row for row in found["probabilities"]]
        for row, wanted in zip(rows, expected, strict=True):
            assert [*row] == pytest.approx([*wanted], abs=1e-5)
