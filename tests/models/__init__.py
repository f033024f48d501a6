"""Tests of models/. Its programs import each other as files of one folder, so that folder goes onto the path."""

import sys

from tests.serving import ROOT

sys.path.insert(0, str(ROOT / "models"))
