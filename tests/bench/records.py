"""Records to measure with. They are generated once, always the same, and kept in .cache/ (git-ignored).

Knows what the records of some models look like. Knows nothing of servers.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from tests.serving import ROOT

CACHE = Path(__file__).resolve().parent / ".cache"
IRIS = "sluice/iris"
HELLO = "brandon/HelloWorld"
WINE = "sluice/wine"
PENGUINS = "sluice/penguins"
LINES_PER_WRITE = 10_000
# A prime number, so that blocks of no size contain the same values again and again.
NUM_VARIANTS = 997
NAMES = ("Ada", "Björn", "Chloé", "Dmitri", "Eve", "Fatima", "Grace", "Hiroshi", "Ingrid", "Jim")


def file_of(model: str, num_records: int) -> Path:
    """A file with this number of records for the model; their yhat_id are 0, 1, 2, ..."""
    path = CACHE / f"{model.rpartition('/')[2].lower()}-{num_records}.ndjson"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        beside = path.with_suffix(".new")
        with beside.open("wb") as file:
            file.writelines(_pieces(model, num_records))
        beside.rename(path)
    return path


def arrow_file_of(model: str, num_records: int, batch_rows: int) -> Path:
    """The same records as an Arrow stream, in record batches of so many rows."""
    path = CACHE / f"{model.rpartition('/')[2].lower()}-{num_records}-{batch_rows}.arrows"
    if not path.exists():
        table = pa.json.read_json(file_of(model, num_records))
        beside = path.with_suffix(".new")
        with pa.ipc.new_stream(beside, table.schema) as writer:
            writer.write_table(table.combine_chunks(), max_chunksize=batch_rows)
        beside.rename(path)
    return path


def one_of(model: str) -> bytes:
    """One record, in the form in which an application sends it."""
    return _variants(model)[0].encode() + b'"0"}'


def _pieces(model: str, num_records: int) -> Iterator[bytes]:
    variants = _variants(model)
    lines = (f'{variants[i % NUM_VARIANTS]}"{i}"}}\n' for i in range(num_records))
    while piece := "".join(itertools.islice(lines, LINES_PER_WRITE)):
        yield piece.encode()


def _variants(model: str) -> list[str]:
    """Records without their end, which is the yhat_id."""
    make = {IRIS: _iris, HELLO: _hello}.get(model)
    if make is None:
        example: dict[str, Any] = json.loads((ROOT / "models" / model / "config.json").read_text())["example"]
        return [_varied(example, i) + ',"yhat_id":' for i in range(NUM_VARIANTS)]
    return [make(i) + ',"yhat_id":' for i in range(NUM_VARIANTS)]


def _varied(example: dict[str, Any], number: int) -> str:
    """The example of a model with other numbers, each with two decimals."""
    factor = 0.8 + 0.4 * (number * 7919 % NUM_VARIANTS) / NUM_VARIANTS
    record = {name: round(value * factor, 2) if isinstance(value, float) else value for name, value in example.items()}
    return json.dumps(record, separators=(",", ":"))[:-1]


def _iris(number: int) -> str:
    """Measures in centimetres with one decimal, within the range of the data that the model was trained on."""
    spread = number * 7919 % NUM_VARIANTS
    sepal_length, sepal_width = 4.3 + spread % 37 / 10, 2.0 + spread % 25 / 10
    petal_length, petal_width = 1.0 + spread % 60 / 10, 0.1 + spread % 25 / 10
    return (
        f'{{"sepal_length":{sepal_length:.1f},"sepal_width":{sepal_width:.1f},'
        f'"petal_length":{petal_length:.1f},"petal_width":{petal_width:.1f}'
    )


def _hello(number: int) -> str:
    return f'{{"name":"{NAMES[number % len(NAMES)]} {number}"'
