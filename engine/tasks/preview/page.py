"""The task `page`: rows from any place of a split, as `/v2/rows` shows them, and as records for a model."""

from collections.abc import Sequence
from typing import Any

from engine.frames import Buffer, Header
from engine.tasks import codec
from engine.tasks.preview.answers import with_bases
from engine.tasks.preview.cells import cell, record_value
from engine.tasks.preview.columns import Column
from engine.tasks.preview.limits import Limits
from engine.tasks.preview.prepared import opened_rows
from engine.tasks.preview.rows import Shown, features_of, modern_rows, place_of

PAGE_ROWS = 100


def page(header: Header) -> tuple[Header, list[Buffer]]:
    """The docstring of the family has header and answer. Failed."""
    limits = Limits.from_header(header.get("limits") or {})
    place = place_of(header)
    offset, length = header["offset"], min(header["length"], PAGE_ROWS)
    lines: list[bytes] = []
    with opened_rows(header) as source:
        columns = source.columns
        features = features_of(columns)
        head = b'{"features":' + features + b',"rows":['
        tail = b'],"num_rows_total":%d,"num_rows_per_page":%d,"partial":false}' % (source.num_rows, PAGE_ROWS)
        rows = modern_rows(columns, len(head) + len(tail), limits)
        for index, values in enumerate(source.values(offset, length), offset):
            cells = [cell(column, value, index, place) for column, value in zip(columns, values, strict=True)]
            rows.add(Shown(index, cells).of(False, limits.rows_max_bytes))
            if rows.is_full and len(rows.rows) <= index - offset:
                break
            if header.get("records"):
                lines.append(_record(columns, [one.modern for one in cells], index))
    rows.finish()
    body, about = with_bases(head, rows, tail, (len(b'{"features":'), len(b'{"features":') + len(features)))
    payload = b"".join(lines)
    told: Header = {
        "size": len(body),
        "body": about,
        "num_rows": len(rows.rows),
        "num_rows_total": source.num_rows,
        "truncated": (["cells"] if rows.has_cut else [])
        + (["rows"] if len(rows.rows) < _wanted(source.num_rows, offset, length) else []),
        "records": [row.index for row in rows.rows] if lines else [],
        "records_size": len(payload),
    }
    return told, [body, payload]


def _wanted(num_rows: int, offset: int, length: int) -> int:
    return max(0, min(length, num_rows - offset))


def _record(columns: Sequence[Column], values: Sequence[Any], index: int) -> bytes:
    """One line: the uncut row with its number, without pictures and sounds."""
    found = {one.name: record_value(one, value) for one, value in zip(columns, values, strict=True) if not one.is_media}
    return codec.dumps({**found, "yhat_id": index}) + b"\n"
