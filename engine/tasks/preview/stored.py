"""What ingestion notes beside the segments that it wrote: the types and labels of columns that Parquet does not have.

The notes lie in the dataset's own folder and are read as any other of its files.
"""

from typing import Any

from engine.tasks import codec
from engine.tasks.preview.files import Folder
from engine.tasks.preview.kinds import value_feature
from engine.tasks.preview.layout import Split

HOME = ".sluice"
MAX_BYTES = 64 * 1024 * 1024


def features(folder: Folder, split: Split) -> dict[str, Any]:
    """The features of class and JSON columns of a split whose files are segments; empty for any other."""
    if not split.files or not split.files[0].path.startswith(f"{HOME}/segments/"):
        return {}
    try:
        with folder.open(f"{HOME}/HEAD") as file:
            head = int(file.read(32))
        with folder.open(f"{HOME}/versions/{head}.json") as file:
            noted = codec.parse_exactly(file.read(MAX_BYTES))["columns"]
        return {one["name"]: _feature(one) for one in noted if one["dtype"] in ("class", "json")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError, codec.NotJson):
        return {}  # laid there by hand: the Parquet files are enough


def _feature(column: dict[str, Any]) -> Any:
    if column["dtype"] == "class":
        return {"names": [str(name) for name in column["names"]], "_type": "ClassLabel"}
    return value_feature("json")
