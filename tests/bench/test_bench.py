"""The benchmark runs to its end and reports every line. `make bench` judges its figures; these tests do not."""

import json
import subprocess
import sys

import pytest

from tests.bench.streaming import LINES
from tests.serving import ROOT

NOT_INSTALLED = {"litserve"}


@pytest.mark.heavy
def test_quick_run_reports_every_line():
    command = [sys.executable, "-m", "tests.bench.streaming", "--quick"]
    found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=300, check=True)
    report = json.loads(found.stdout)
    assert report["quick"] is True
    assert {figure["name"] for figure in report["figures"]} >= LINES.keys() - NOT_INSTALLED


def test_unknown_line_is_refused():
    command = [sys.executable, "-m", "tests.bench.streaming", "nonsense"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 2
    assert "no line is called nonsense" in found.stderr
