"""Files in every form that people send, through the front door: the same rows come out of them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.projects.asking import SWE, Client, made
from tests.projects.files import Sheet, extra

# Workbooks keep as many digits of a number.
DIGITS = 15


def rounded(sheet: Sheet) -> Sheet:
    rows = [[float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell for cell in row] for row in sheet.rows]
    return Sheet(sheet.header, rows)


def forms(sheet: Sheet) -> dict[str, bytes]:
    """The same table as four files. Two have names of the other kind, which is told by content."""
    return {"long.csv": sheet.csv(), "wide.csv": sheet.wide_csv(), "long.txt": sheet.xlsx(), "wide.csv.xlsx": sheet.wide_xlsx()}


def rows(client: Client, dataset: int, name: str) -> list[dict[str, Any]]:
    """The rows of a type as the dataset keeps them, by their keys and dates."""
    folder = Path(client.server.data_dir, "datasets", client.team, f"{client.project}-dataset-{dataset}")
    found = pq.read_table(folder / f"{name}.parquet", partitioning=None).to_pylist()
    return sorted(found, key=lambda row: [str(value) for value in row.values()])


@pytest.mark.parametrize("name", ["Sales", "Media", "Extra"])
def test_long_and_wide_csv_and_workbooks_become_the_same_rows(client: Client, plain: dict[str, Sheet], name: str) -> None:
    found = {}
    for file_name, content in forms(rounded(plain[name])).items():
        uploads = [client.uploaded(name, content, file_name)]
        shown = made(client.get(f"/datauploads/{uploads[0]}"), 200)
        assert shown["Layout"] == ("wide" if "wide" in file_name else "long")
        if name != "Sales":
            uploads.append(client.uploaded("Sales", plain["Sales"]))
        found[file_name] = rows(client, client.joined(uploads), name)
    assert len(found["long.csv"]) == len(plain[name].rows)
    for other in found.values():
        assert other == found["long.csv"]


def test_a_type_of_any_name_goes_from_a_file_to_a_node(client: Client, plain: dict[str, Sheet]) -> None:
    dates = [str(row[3]) for row in plain["Sales"].rows]
    foot = extra(dates, {"cars": range(60), "people": range(60, 120)})
    dataset = client.dataset({"Sales": plain["Sales"], "Foot traffic": foot})
    cars = [row["value"] for row in rows(client, dataset, "Foot_traffic") if row["name"] == "cars"]
    assert cars == list(map(float, range(60)))
    graph = made(client.get("/build/graphs/default", dataset_id=dataset, **SWE), 200)
    node = next(node for node in graph["nodes"] if node["id"] == "control.cars")
    assert (node["kind"], node["source"]["dataset_name"], node["source"]["name"]) == ("control", "Foot traffic", "cars")
    assert client.built(dataset, graph)["Scales"]["control.cars"] > 0
    assert client.dates(dataset, "Foot traffic") == dates
