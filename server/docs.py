"""The tables in README.md and docs/ that are made from the code: `python -m server.docs` writes them again.

Each table stands between `<!-- table NAME -->` and `<!-- end -->`, in the document where a reader looks for it. A test compares
them with the code and names this command. This file knows where settings, routes, metrics and error codes are kept; it does not
know how any of them works.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge
from prometheus_client.core import Metric

from engine import embeddings, errors, metrics, teams, tokens
from engine.datasets import catalogue, changes, names, work
from engine.errors import Code
from engine.histograms import Histogram
from engine.preview import faults
from engine.projects import codes as project_codes
from engine.query import codes
from engine.repository import incoming, publishing, quotas, serving
from engine.roles import MEANINGS
from engine.store import JobStatus
from engine.streaming import failures, predictions
from handlers.http import connections, origins
from handlers.http import errors as http_errors
from handlers.http.errors import status_of
from handlers.openapi import merged, public_path
from handlers.preview import keys as preview_keys
from handlers.preview import pages as preview_pages
from handlers.preview import queue as preview_queue
from handlers.projects.answers import DATA_WORDS, MODEL_WORDS
from server.app import ROUTES
from server.config import Settings, default_text, environment_name

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = "python -m server.docs"
TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


# The modules that define codes of requests.
CODE_MODULES = (
    *(errors, embeddings, incoming, publishing, quotas, serving, predictions, connections, http_errors, origins),
    *(catalogue, changes, names, work, codes),
    *(teams, tokens, project_codes),
    *(faults, preview_keys, preview_pages, preview_queue),
)


def main() -> int:
    """Write the tables of every document; exit code 0."""
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def with_tables(text: str) -> str:
    """The text, with every table made from the code again. KeyError for a table with an unknown name."""
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def settings() -> str:
    rows = ((f"`{environment_name(one.name)}`", f"`{default_text(one)}`", _meaning(one.metadata)) for one in fields(Settings))
    return _table("setting", "default", "meaning", rows=rows)


def _meaning(metadata: Mapping[str, Any]) -> str:
    older = metadata["older"]
    return f"{metadata['text']} (older name: `{older}`)" if older else str(metadata["text"])


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
    """Name (as /metrics shows it), labels and sentence of every metric, sorted by name.

    prometheus_client tells the labels of its metrics only in `_labelnames`.
    """
    defined = vars(metrics).values()
    counted: list[tuple[Any, tuple[str, ...]]] = [(one, one._labelnames) for one in defined if isinstance(one, Counter | Gauge)]
    counted += [(one, one.label_names) for one in defined if isinstance(one, Histogram)]
    counted += [(one, one.labels) for one in metrics.MODEL_METRICS]
    families = [(family, labels) for one, labels in counted for family in one.describe()]
    families += [(level.shown({}), level.labels) for level in defined if isinstance(level, metrics.Level)]
    return sorted((_shown_name(family), tuple(labels), family.documentation) for family, labels in families)


def _shown_name(family: Metric) -> str:
    return family.name + ("_total" if family.type == "counter" else "")


def request_codes() -> str:
    """One row for each code of a refused request, by status."""
    rows = sorted((str(status_of(code)), str(code), code.text) for code in defined_codes())
    return _table("code", "status", "meaning", rows=((f"`{code}`", status, text) for status, code, text in rows))


def defined_codes() -> set[Code]:
    """The codes of requests, from every module that defines some."""
    named = {value for module in CODE_MODULES for value in vars(module).values() if isinstance(value, Code)}
    return named | {*codes.QUERY_CODES.values(), *project_codes.REFUSALS.values()}


def record_codes() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", code.text) for code in errors.RECORD_CODES.values()))


def stream_codes() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", code.text) for code in failures.STREAM_CODES))


def roles() -> str:
    return _table("role", "what it adds", rows=((f"`{role.word}`", text) for role, text in MEANINGS.items()))


def project_states() -> str:
    """One row for each state of a job, with the two words that objects have for it."""
    order: tuple[JobStatus, ...] = ("waiting", "started", "success", "error", "cancelled")
    rows = ((status, f"`{DATA_WORDS[status]}`", f"`{MODEL_WORDS[status]}`") for status in order)
    return _table("job", "uploads, datasets, attribution sets", "models, attributions", rows=rows)


def file_faults() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", text) for code, text in project_codes.FILE_DETAILS.items()))


def fit_warnings() -> str:
    return _table("code", "meaning", rows=((f"`{code}`", text) for code, text in project_codes.WARNINGS.items()))


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "routes": routes,
    "metrics": metric_names,
    "request_codes": request_codes,
    "record_codes": record_codes,
    "stream_codes": stream_codes,
    "roles": roles,
    "project_states": project_states,
    "file_faults": file_faults,
    "fit_warnings": fit_warnings,
}


def _table(*titles: str, rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table, one line for each row."""
    lines = [titles, ("---",) * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
