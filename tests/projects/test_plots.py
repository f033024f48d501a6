"""Plots over HTTP: pictures of the wanted size that name every group, are kept by caches of one user, and are safe."""

from typing import Any
from xml.etree import ElementTree

import pytest
import requests

from tests.projects.asking import Client, made, refused
from tests.projects.files import Sheet
from tests.projects.house import Full

SVG = "{http://www.w3.org/2000/svg}"
MODEL_KINDS = ("fit", "response", "residuals", "baseline")
ATTRIBUTION_KINDS = ("contributions", "waterfall")
WILD = '<b>&"'


def labels(answer: requests.Response) -> list[str]:
    """The texts of a picture, once it is known to be one."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "image/svg+xml"
    return [text.text or "" for text in ElementTree.fromstring(answer.content).iter(f"{SVG}text")]


def path_of(full: Full, kind: str) -> str:
    if kind in MODEL_KINDS:
        return f"/models/{full.model['IId']}/plot"
    return f"/attributions/{full.attribution['IId']}/plot"


@pytest.mark.parametrize("kind", MODEL_KINDS + ATTRIBUTION_KINDS)
def test_a_plot_is_well_formed_and_has_the_wanted_size(full: Full, kind: str) -> None:
    for size, wanted in (({}, ("960", "480")), ({"width": 200, "height": 4000}, ("200", "4000"))):
        answer = full.client.get(path_of(full, kind), kind=kind, **size)
        root = ElementTree.fromstring(answer.content)
        assert (root.get("width"), root.get("height")) == wanted
        assert labels(answer)


@pytest.mark.parametrize("kind", ATTRIBUTION_KINDS)
def test_a_plot_of_an_attribution_has_one_label_for_each_group(full: Full, kind: str) -> None:
    graph = made(full.client.get(f"/build/graphs/{full.model['GraphInstance']['Graph']['Id']}"), 200)
    names = {node["id"]: node["name"] for node in graph["nodes"]}
    shown = labels(full.client.get(path_of(full, kind), kind=kind))
    for entry in full.attribution["Totals"]:
        assert shown.count(names[entry["Node"]]) == 1


@pytest.mark.parametrize("kind", ["fit", "waterfall"])
def test_a_browser_keeps_a_plot_for_its_user_and_asks_whether_it_has_changed(full: Full, kind: str) -> None:
    first = full.client.get(path_of(full, kind), kind=kind)
    assert first.headers["Cache-Control"] == "private"
    etag = first.headers["ETag"]
    again = full.client.of_project("GET", path_of(full, kind), params={"kind": kind}, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    other = full.client.of_project("GET", path_of(full, kind), params={"kind": kind, "width": 500}, headers={"If-None-Match": etag})
    assert other.status_code == 200
    assert full.client.get(path_of(full, kind), kind=kind).content == first.content


def test_a_hostile_name_breaks_no_plot(client: Client, plain: dict[str, Sheet]) -> None:
    media = plain["Media"]
    place = media.header.index("Media")
    wild = Sheet(
        media.header, [[*row[:place], WILD if row[place] == "tv" else row[place], *row[place + 1 :]] for row in media.rows]
    )
    dataset = client.dataset({**plain, "Media": wild})
    dates = client.dates(dataset)
    model = client.built(dataset)["IId"]
    attribution = client.attributed(model, dataset, dates[0], dates[-1])["IId"]
    assert labels(client.get(f"/models/{model}/plot", kind="response")).count(WILD) == 1
    for kind in ATTRIBUTION_KINDS:
        assert labels(client.get(f"/attributions/{attribution}/plot", kind=kind)).count(WILD) == 1


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "pie"},
        {"kind": "waterfall"},
        {},
        {"kind": "fit", "width": 199},
        {"kind": "fit", "width": 4001},
        {"kind": "fit", "height": "tall"},
    ],
)
def test_other_kinds_and_sizes_are_refused(full: Full, query: dict[str, Any]) -> None:
    error = refused(full.client.get(path_of(full, "fit"), **query), 422, "bad_field")
    assert error["Details"][0]["Column"] in ("kind", "width", "height")


def test_what_is_not_complete_has_no_plot(client: Client, plain: dict[str, Sheet]) -> None:
    dataset = client.dataset(plain)
    pending = made(client.build(dataset, inference="vi", epochs=20_000, samples=64))["IId"]
    refused(client.get(f"/models/{pending}/plot", kind="fit"), 409, "not_complete")
    made(client.post(f"/models/{pending}/cancel"), 200)
    refused(client.get(f"/models/{pending}/plot", kind="response"), 409, "not_complete")
    refused(client.get("/models/99/plot", kind="fit"), 404, "unknown_model")
    refused(client.get("/attributions/99/plot", kind="waterfall"), 404, "unknown_attribution")
