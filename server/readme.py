"""The tables of README.md that are made from the code: `python -m server.readme` writes them anew.

Each stands between `<!-- table NAME -->` and `<!-- end -->`. A test compares them with the code and names this command. Knows where
settings, routes, metrics and error codes are kept, and nothing of how they work.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric

from engine import errors, metrics
from handlers.http.errors import STATUSES
from handlers.openapi import merged, public_path
from server.app import ROUTES
from server.config import Settings, default_text, environment_name

README = Path(__file__).resolve().parent.parent / "README.md"
COMMAND = "python -m server.readme"
TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    """Write the tables; exit code 0."""
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_tables(text: str) -> str:
    """The text with the content of every table made anew. KeyError for a table of an unknown name."""
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def settings() -> str:
    rows = ((f"`{environment_name(one.name)}`", f"`{default_text(one)}`", one.metadata["text"]) for one in fields(Settings))
    return _table("setting", "default", "meaning", rows=rows)


def routes() -> str:
    """One row for each path and handler, with all its methods."""
    rows: dict[tuple[str, object], list[str]] = {}
    for route in merged(ROUTES):
        row = rows.setdefault((public_path(route), route.handler), ["", public_path(route), route.summary, route.key])
        row[0] += f"{', ' if row[0] else ''}{route.method}"
    made = ((f"`{methods} {path}`", summary, key) for methods, path, summary, key in rows.values())
    return _table("method, path", "meaning", "key needed", rows=made)


def metric_names() -> str:
    rows = ((f"`{name}`", " ".join(f"`{label}`" for label in labels), text) for name, labels, text in _series())
    return _table("metric", "labels", "meaning", rows=rows)


def _series() -> list[tuple[str, tuple[str, ...], str]]:
    """Name as /metrics shows it, labels and sentence of every metric, by name.

    prometheus_client tells a metric's labels only in `_labelnames`, until the first observation.
    """
    counted = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)]
    nothing = metrics.Levels(streams={}, queue_blocks={}, replicas={}, spill_bytes=0, blocks_dropped=0)
    families = [(family, one._labelnames) for one in counted for family in one.describe()]
    families += [(level, level._labelnames) for level in metrics.LevelsCollector(lambda: nothing).collect()]  # type: ignore[attr-defined]
    return sorted((_shown_name(family), labels, family.documentation) for family, labels in families)


def _shown_name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def request_codes() -> str:
    rows = ((f"`{code}`", str(STATUSES[code]), text) for code, text in errors.REQUEST_CODES.items())
    return _table("code", "status", "meaning", rows=rows)


def record_codes() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", text) for code, text in errors.RECORD_CODES.items()))


def stream_codes() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", text) for code, text in errors.STREAM_CODES.items()))


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "routes": routes,
    "metrics": metric_names,
    "request_codes": request_codes,
    "record_codes": record_codes,
    "stream_codes": stream_codes,
}


def _table(*titles: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table, one line a row."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
