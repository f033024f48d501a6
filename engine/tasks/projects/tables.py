"""The task `effects`: rows of the table of an attribution, as JSON or as CSV."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from engine.frames import Header
from engine.tasks import codec
from engine.tasks.projects.refusals import Refusal


def effects(header: Header) -> bytes:
    """The answer of the task. Refusal `bad_field`."""
    table = pq.read_table(Path(header["attribution"]) / "effects.parquet")
    if header["node"] is not None:
        table = table.filter(pc.equal(table["Node"], header["node"]))
        if not table.num_rows:
            message = f"The attribution has no node {header['node'][:100]}."
            raise Refusal("bad_field", message, [{"Code": "bad_field", "Column": "node", "Message": message}])
    return _csv(table) if header["format"] == "csv" else _json(table)


def _json(table: pa.Table) -> bytes:
    dates = pc.strftime(table["Date"], format="%Y-%m-%d")
    return codec.dumps(table.set_column(0, "Date", dates).to_pylist())


def _csv(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pa_csv.write_csv(table, target)
    return target.getvalue()
