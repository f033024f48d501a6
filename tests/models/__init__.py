"""Tests of models/, whose programs import each other as files of one folder."""

import sys

from tests.serving import ROOT

sys.path.insert(0, str(ROOT / "models"))
