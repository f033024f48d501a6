"""The task `page`: rows from any place of a split, as `/v2/rows` shows them, and as records for a model."""

from collections.abc import Sequence
from typing import Any

from engine.frames import Buffer, Header
from engine.tasks import codec
from engine.tasks.preview.answers import Rows, with_bases
from engine.tasks.preview.cells import cell, record_value
from engine.tasks.preview.columns import Column
from engine.tasks.preview.limits import Limits
from engine.tasks.preview.prepared import StoredRows, opened_rows
from engine.tasks.preview.rows import Shown, features_of, modern_rows, place_of

PAGE_ROWS = 100
_START, _ROWS = b'{"features":', b',"rows":['


def page(header: Header) -> tuple[Header, list[Buffer]]:
    """The docstring of the family has header and answer. Failed."""
    limits = Limits.from_header(header.get("limits") or {})
    with opened_rows(header) as source:
        rows, lines, head, tail = _filled(source, header, limits)
        num_rows = source.num_rows
    rows.finish()
    start = len(_START)
    body, about = with_bases(head, rows, tail, (start, len(head) - len(_ROWS)))
    lines = lines[: len(rows.rows)]
    payload = b"".join(lines)
    is_short = len(rows.rows) < max(0, min(header["length"], PAGE_ROWS, num_rows - header["offset"]))
    told: Header = {
        "size": len(body),
        "body": about,
        "num_rows": len(rows.rows),
        "num_rows_total": num_rows,
        "truncated": [word for word, is_so in (("cells", rows.has_cut), ("rows", is_short)) if is_so],
        "records": [row.index for row in rows.rows] if lines else [],
        "records_size": len(payload),
    }
    return told, [body, payload]


def _filled(source: StoredRows, header: Header, limits: Limits) -> tuple[Rows, list[bytes], bytes, bytes]:
    """The rows of the page, a line for each if records are asked for, and what is before and behind the rows."""
    columns = source.columns
    place = place_of(header)
    head = _START + features_of(columns) + _ROWS
    tail = b'],"num_rows_total":%d,"num_rows_per_page":%d,"partial":false}' % (source.num_rows, PAGE_ROWS)
    rows = modern_rows(columns, len(head) + len(tail), limits)
    lines: list[bytes] = []
    for index, values in enumerate(source.values(header["offset"], min(header["length"], PAGE_ROWS)), header["offset"]):
        if rows.is_full:
            break
        cells = [cell(column, value, index, place) for column, value in zip(columns, values, strict=True)]
        rows.add(Shown(index, cells).of(False, limits.rows_max_bytes))
        if header.get("records"):
            lines.append(_record(columns, [one.modern for one in cells], index))
    return rows, lines, head, tail


def _record(columns: Sequence[Column], values: Sequence[Any], index: int) -> bytes:
    """One line: the uncut row with its number, without pictures and sounds."""
    found = {one.name: record_value(one, value) for one, value in zip(columns, values, strict=True) if not one.is_media}
    return codec.dumps_large({**found, "yhat_id": index}) + b"\n"
