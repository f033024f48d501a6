"""The benchmark runs to its end and reports every line. `make bench` judges its figures; these tests do not."""

import json
import subprocess
import sys

import pytest

from tests.bench import preview, projects, query, streaming
from tests.serving import ROOT

# Lines that need something beside the project: another server, a rival, weights, packages, a compiler, an older checkout.
OPTIONAL = {"litserve", "deeplake", "embed", "real", "others", "flights", "page", "native", "before", "fastapi", "mlserver"}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("surface", "lines"),
    [("streaming", streaming.LINES), ("query", query.LINES), ("preview", preview.LINES), ("projects", projects.LINES)],
)
def test_quick_run_reports_every_line(surface, lines):
    command = [sys.executable, "-m", f"tests.bench.{surface}", "--quick"]
    found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=600, check=True)
    report = json.loads(found.stdout)
    assert report["quick"] is True
    assert {figure["name"] for figure in report["figures"]} >= lines.keys() - OPTIONAL


def test_unknown_line_is_refused():
    command = [sys.executable, "-m", "tests.bench.streaming", "nonsense"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert "no line is called nonsense" in found.stderr
