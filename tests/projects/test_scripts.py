"""The four scripts of the original API run as they are: only url, token, ids and the path of the file are replaced."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.projects.asking import BASES, SWE, Client, codes, in_days, made, new_project
from tests.projects.files import Sheet
from tests.serving import ROOT, Server, serving

SCRIPTS = ROOT / "tests" / "data" / "projects"
# The scripts ask for ever after a job that has failed. The limit of each test is 300 s.
TIMEOUT_S = 200
# The dataset that is there before a script runs has as many of the 60 weeks; the file that a script sends begins before its end.
KNOWN_WEEKS, OLD_WEEKS = 52, 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its fits end after a second, whether the chains have converged or not; a script sees no difference."""
    data_dir = tmp_path_factory.mktemp("scripts") / "data"
    with serving(data_dir, SLUICE_SCORE_REPLICAS="1", SLUICE_HMC_GRADIENTS="1500") as running:
        yield running
        assert "Traceback" not in running.log


@dataclass(frozen=True)
class Shop:
    """A project with an active dataset, a model of it and an attribution, and an access token of somebody who runs scripts."""

    client: Client
    token: str
    dates: list[str]
    dataset: int
    model: int
    attribution: int

    def run(self, script: str, **names: Any) -> str:
        """What a script prints. The values replace those that it gives to these names in its first lines."""
        text = (SCRIPTS / script).read_text(encoding="utf-8")
        known = {"url": self.client.server.url + self.client.base, "token": self.token}
        for name, value in (known | {"team_id": self.client.team, "project_id": self.client.project} | names).items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", text, flags=re.MULTILINE)
            assert count == 1, f"{script} does not set {name} once"
        command = [sys.executable, "-c", text]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{script} did not end: {(late.stdout or b'')[-2000:]!r}") from None
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout


@pytest.fixture(scope="module", params=BASES)
def shop(request: pytest.FixtureRequest, server: Server, plain: dict[str, Sheet]) -> Shop:
    client = new_project(server, base=request.param)
    token = made(client.ask("POST", "/user/access_tokens", json={"name": "scripts", "expires_at": in_days(30)}))["Token"]
    dates = [str(row[3]) for row in plain["Sales"].rows]
    early = {name: plain[name].only("Date", dates[:KNOWN_WEEKS]) for name in ("Sales", "Media", "Extra")}
    dataset = client.dataset(plain | early, activate=True)
    model = client.built(dataset)["IId"]
    attribution = client.attributed(model, dataset, dates[0], dates[KNOWN_WEEKS - 1])["IId"]
    return Shop(client.but(auth=token), token, dates, dataset, model, attribution)


def newest(client: Client, kind: str) -> dict[str, Any]:
    """The newest object of a kind, whole."""
    iid = made(client.get(f"/{kind}", limit=1), 200)[0]["IId"]
    found: dict[str, Any] = made(client.get(f"/{kind}/{iid}"), 200)
    return found


def test_a_file_becomes_the_active_dataset(shop: Shop, sent: Path) -> None:
    empty = new_project(shop.client.server, base=shop.client.base).but(auth=shop.token)
    shop_of_nothing = Shop(empty, shop.token, [], 0, 0, 0)
    shop_of_nothing.run("upload.py", file_path=str(sent))
    active = made(empty.get("/datasets/active"), 200)
    assert active["IId"] == 1
    assert active["Active"] is True
    assert [(one["DatasetName"], one["Rows"]) for one in active["Types"]] == [("Sales", len(shop.dates))]
    assert empty.dates(1) == shop.dates


def test_new_sales_extend_the_dataset_refit_the_model_and_are_attributed(
    shop: Shop, plain: dict[str, Sheet], tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    path.write_bytes(plain["Sales"].only("Date", shop.dates[OLD_WEEKS:]).csv())
    printed = shop.run("refit_attribute.py", file_path=str(path), existing_model_id=shop.model)
    assert "Waiting for attribution to complete" in printed
    dataset = newest(shop.client, "datasets")
    assert dataset["Datasets"] == [shop.dataset]
    assert dataset["Types"][0]["Replaced"] == KNOWN_WEEKS - OLD_WEEKS
    model, attribution = newest(shop.client, "models"), newest(shop.client, "attributions")
    assert (model["Kind"], model["Parent"], model["DataSet"]) == ("refit", {"IId": shop.model}, {"IId": dataset["IId"]})
    assert model["TrainDates"] + model["EvalDates"] == shop.dates
    assert model["ModelParam"] | {"epochs": 500, "learning_rate": 0.001, "samples": 3} == model["ModelParam"]
    assert "source_ends_early" in codes(model["Warnings"])
    assert (attribution["StartDate"], attribution["EndDate"], attribution["Samples"]) == (shop.dates[0], shop.dates[-1], 20)
    assert attribution["Model"] == {"IId": model["IId"]}


def test_the_active_set_is_extended_also_where_there_is_none(shop: Shop) -> None:
    nothing = made(shop.client.get("/attributionset/active"), 200)
    assert nothing == {"IId": None, "Status": None, "Attributions": []}
    shop.run("extend_set.py", attribution_id=shop.attribution)
    first = made(shop.client.get("/attributionset/active"), 200)
    assert first["Attributions"] == [{"IId": shop.attribution}]
    other = shop.client.attributed(shop.model, shop.dataset, shop.dates[10], shop.dates[20])["IId"]
    shop.run("extend_set.py", attribution_id=other)
    second = made(shop.client.get("/attributionset/active"), 200)
    assert second["Attributions"] == [{"IId": other}, {"IId": shop.attribution}]
    assert second["IId"] == first["IId"] + 1


def test_a_model_is_built_again_from_its_graph_of_both_levels(shop: Shop) -> None:
    before = made(shop.client.get(f"/models/{shop.model}"), 200)
    newest_before = newest(shop.client, "models")["IId"]
    shop.run("remodel.py", target_model_id=shop.model)
    models = [shop.client.waited(f"/models/{newest_before + number}") for number in (1, 2)]
    for model in models:
        assert model["Status"] == "completed", model
        assert (model["Kind"], model["Parent"], model["Active"]) == ("build", None, False)
        assert model["TrainDates"] == shop.client.dates(shop.dataset, "Sales", SWE)[: int(KNOWN_WEEKS * 0.75)]
        assert model["GraphInstance"]["Id"] != before["GraphInstance"]["Id"]
        assert codes(model["Warnings"]) >= {"few_periods"}
