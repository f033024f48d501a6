"""Models: what their answers say, how they are chosen, refitted, cancelled and removed, and that a kill costs one attempt."""

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.engine.tasks.projects import sets
from tests.projects.asking import MAP, Client, codes, made, new_project, refused
from tests.projects.files import Sheet
from tests.projects.house import Full
from tests.serving import Server, serving

# The fit takes seconds, so that a test can act in the middle.
LONG = {"inference": "vi", "epochs": 20_000, "samples": 64}
TV = sets.star(sets.node("tv", "media"))
FILES = ("config.json", "draws.npy", "fitted.json", "model.onnx")


def until(condition: Callable[[], bool]) -> None:
    """Nobody tells a client of what it waits for here."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


def show(client: Client, model: int) -> dict[str, Any]:
    found: dict[str, Any] = made(client.get(f"/models/{model}"), 200)
    return found


def running(client: Client, answer: requests.Response) -> int:
    """The number of a model whose fit has said how far it is."""
    iid: int = made(answer)["IId"]
    until(lambda: show(client, iid)["Progress"] is not None)
    return iid


def folder_of(server: Server, model: dict[str, Any]) -> Path:
    return server.data_dir / "models" / model["Served"]["Name"] / str(model["Served"]["Version"])


@pytest.fixture(scope="module")
def stock(server: Server, plain: dict[str, Sheet]) -> tuple[Client, int]:
    """A project with a dataset, in which tests make models as they like."""
    client = new_project(server)
    return client, client.dataset(plain)


# What an answer says


def test_a_model_says_from_the_first_answer_what_scripts_read(full: Full) -> None:
    answer = made(full.client.build(full.dataset, TV, held_out=10))
    assert answer["Status"] in ("pending", "running")
    assert (answer["Country"], answer["Region"], answer["Grouping"]) == ("SWE", "all", "all")
    assert answer["DataSet"] == {"IId": full.dataset}
    assert answer["GraphInstance"]["Graph"]["Id"] > 0
    assert (answer["Kind"], answer["Parent"], answer["Active"]) == ("build", None, False)
    assert answer["ModelParam"] == {"epochs": 0, "learning_rate": 0.005, "samples": 8, "inference": "map", "seed": 0}
    assert (answer["TrainDates"], answer["EvalDates"]) == (full.dates[:-10], full.dates[-10:])
    assert [answer[name] for name in ("Metrics", "Diagnostics", "Drift", "Scales", "Served", "Error")] == [None] * 6
    done = full.client.waited(f"/models/{answer['IId']}")
    assert {name: done[name] for name in answer if answer[name] == done[name]}.keys() >= {"Country", "DataSet", "ModelParam"}
    assert done["Metrics"]["Eval"].keys() == {"R2", "MAPE", "WMAPE", "RMSE", "CRPS", "Coverage90"}
    diagnostics = {"Converged", "RHatMax", "EssMin", "Divergences", "Acceptance", "Elbo", "MapSpread", "DurbinWatson"}
    assert done["Diagnostics"].keys() == diagnostics | {"NegativeBaselineProbability", "Parameters"}
    assert done["Drift"] is None
    assert done["Scales"]["sales"] > 0
    name = f"{full.client.team}/{full.client.project}-model-{done['IId']}"
    assert done["Served"] == {"Name": name, "Version": 1, "Window": 13}
    assert "Response" not in done


def test_what_is_left_out_of_a_body_has_its_default(full: Full) -> None:
    detail = {"dataset_id": full.dataset, "train_dates": full.dates, "modelling_combination": {"country_code": "SWE"}}
    answer = made(full.client.post("/build/model", {"model_detail": detail}))
    assert answer["ModelParam"] == {"epochs": 500, "learning_rate": 0.005, "samples": 8, "inference": "hmc", "seed": 0}
    assert (answer["Region"], answer["Grouping"], answer["EvalDates"]) == ("all", "all", [])
    made(full.client.post(f"/models/{answer['IId']}/cancel"), 200)


@pytest.mark.parametrize(
    "param",
    [
        {"epochs": -1},
        {"epochs": 20_001},
        {"learning_rate": 0},
        {"learning_rate": 1.01},
        {"samples": 0},
        {"samples": 257},
        {"inference": "nuts"},
        {"seed": -1},
    ],
)
def test_a_parameter_outside_its_range_is_refused_and_named(full: Full, param: dict[str, Any]) -> None:
    [name] = param
    for answer in (full.client.build(full.dataset, TV, **param), full.client.refit(full.model["IId"], full.dataset, **param)):
        error = refused(answer, 422, "bad_parameter")
        assert [detail["Column"] for detail in error["Details"]] == [f"model_param.{name}"]
        assert error["Message"].startswith(f"model_param.{name}: It must be ")


@pytest.mark.parametrize(
    ("change", "code", "column"),
    [
        ({"dataset_id": "1"}, "bad_field", "model_detail.dataset_id"),
        ({"train_dates": ["7/1/18"]}, "bad_field", "model_detail.train_dates.0"),
        ({"activate": 1}, "bad_field", "model_detail.activate"),
        ({"more": 1}, "unknown_field", "model_detail.more"),
    ],
)
def test_a_wrong_field_is_refused_and_named(full: Full, change: dict[str, Any], code: str, column: str) -> None:
    error = refused(full.client.build(full.dataset, TV, detail=change), 422, code)
    assert error["Details"][0]["Column"] == column


def test_a_dataset_that_is_not_there_or_not_complete_is_refused(client: Client, plain: dict[str, Sheet]) -> None:
    upload = client.uploaded("Extra", plain["Extra"])
    failed = client.waited(f"/datasets/{made(client.join([upload]))['IId']}")
    assert failed["Status"] == "failed"
    detail = {"train_dates": ["2018-01-07"], "eval_dates": [], "modelling_combination": {"country_code": "SWE"}}
    for dataset, status, code in ((failed["IId"], 409, "not_complete"), (99, 404, "unknown_dataset")):
        refused(client.post("/build/model", {"model_detail": detail | {"dataset_id": dataset}}), status, code)


def test_warnings_of_the_graph_and_of_the_fit_are_told_once_each(client: Client, plain: dict[str, Sheet]) -> None:
    silent = plain["Media"].changed(2, "Product", "all")
    silent.rows += [[*row[:-1], 0.0] for row in silent.rows]
    place = silent.header.index("Media")
    for row in silent.rows[len(silent.rows) // 2 :]:
        row[place] = f"{row[place]} silent"
    model = client.built(client.dataset({**plain, "Media": silent}))
    found = [(warning["Code"], warning.get("Node")) for warning in model["Warnings"]]
    assert ("constant_in_training", "media.tv_silent") in found
    assert "intervals_approximate" in codes(model["Warnings"])
    assert len({(warning["Code"], warning["Message"]) for warning in model["Warnings"]}) == len(found)


def test_a_fit_that_fails_says_why(stock: tuple[Client, int]) -> None:
    client, dataset = stock
    model = client.built(dataset, TV)
    instance = made(client.ask("GET", f"/graph_instances/{client.team}/{model['GraphInstance']['Id']}"), 200)
    for node in instance["nodes"]:
        if node["op"] == "observe":
            node["params"]["scale"] = 1e-15
    error = client.failed("models", client.build(dataset, instance), "fit_diverged")
    assert error["Details"][0]["Node"]


# Progress, cancel


def test_a_fit_tells_how_far_it_is_and_ends_at_once_when_it_is_cancelled(server: Server, stock: tuple[Client, int]) -> None:
    client, dataset = stock
    iid = running(client, client.build(dataset, **LONG))
    progress = show(client, iid)["Progress"]
    assert list(progress) == ["Stage", "Done", "Total", "Elbo", "EtaS"]
    assert progress["Stage"] in ("map", "laplace", "vi", "hmc", "export")
    assert 0 <= progress["Done"] <= progress["Total"]
    answer = made(client.post(f"/models/{iid}/cancel"), 200)
    assert (answer["Status"], answer["Progress"]) == ("cancelled", None)
    refused(client.post(f"/models/{iid}/cancel"), 409, "already_finished")
    folder = server.data_dir / "models" / client.team / f"{client.project}-model-{iid}"
    until(lambda: not folder.exists())
    assert show(client, iid)["Status"] == "cancelled"


def test_a_waiting_model_is_cancelled_too(stock: tuple[Client, int]) -> None:
    client, dataset = stock
    first, second = (made(client.build(dataset, **LONG))["IId"] for _ in range(2))
    assert made(client.post(f"/models/{second}/cancel"), 200)["Status"] == "cancelled"
    made(client.post(f"/models/{first}/cancel"), 200)
    assert show(client, second)["Attempt"] == 0


# Active models


def test_one_model_of_a_combination_is_active(client: Client, plain: dict[str, Sheet]) -> None:
    dataset = client.dataset(plain)
    first, second = (client.built(dataset, TV, seed=seed)["IId"] for seed in (0, 1))
    assert made(client.get("/models/active"), 200) == []
    assert made(client.patch(f"/models/{first}/activate"), 200)["Active"]
    assert [model["IId"] for model in made(client.get("/models/active"), 200)] == [first]
    assert made(client.post(f"/models/{second}/activate"), 200)["Active"]
    [active] = made(client.get("/models/active"), 200)
    assert active == show(client, second)
    assert not show(client, first)["Active"]
    assert made(client.get(), 200)["ActiveModels"] == [second]
    refused(client.delete(f"/models/{second}"), 409, "in_use")
    pending = made(client.build(dataset, **LONG))["IId"]
    refused(client.patch(f"/models/{pending}/activate"), 409, "not_complete")
    made(client.post(f"/models/{pending}/cancel"), 200)
    refused(client.patch("/models/99/activate"), 404, "unknown_model")


def test_a_model_is_activated_at_its_success_but_not_when_it_has_not_converged(stock: tuple[Client, int]) -> None:
    client, dataset = stock
    by_map = client.built(dataset, TV, detail={"activate": True})
    is_converged = by_map["Diagnostics"]["Converged"]
    assert by_map["Active"] is is_converged
    assert ("not_activated" in codes(by_map["Warnings"])) is not is_converged


# Refits


def test_a_refit_keeps_scales_and_instance_and_tells_its_drift(full: Full) -> None:
    child = full.client.done("models", full.client.refit(full.model["IId"], full.dataset))
    assert (child["Kind"], child["Parent"]) == ("refit", {"IId": full.model["IId"]})
    assert child["GraphInstance"] == full.model["GraphInstance"]
    assert child["Scales"] == full.model["Scales"]
    nodes = {row["Node"] for row in child["Drift"]}
    assert {"media.tv", "media.radio", "control.income"} <= nodes
    totals = {entry["Node"]: entry["Total"] for entry in full.attribution["Totals"]}
    for row in child["Drift"]:
        width = totals[row["Node"]]["P95"] - totals[row["Node"]]["P5"]
        assert abs(row["Mean"] - row["ParentMean"]) <= width + 1e-9
    assert child["Metrics"]["Train"]["R2"] == pytest.approx(full.model["Metrics"]["Train"]["R2"], abs=0.02)


def test_a_refit_needs_a_complete_model_and_the_sources_of_its_graph(stock: tuple[Client, int], plain: dict[str, Sheet]) -> None:
    client, dataset = stock
    model = client.built(dataset, TV)["IId"]
    sales = client.dataset({"Sales": plain["Sales"]})
    error = refused(client.refit(model, sales), 422, "source_missing")
    assert error["Details"][0]["Node"] == "tv"
    pending = made(client.build(dataset, **LONG))["IId"]
    refused(client.refit(pending, dataset), 409, "not_complete")
    made(client.post(f"/models/{pending}/cancel"), 200)
    refused(client.refit(99, dataset), 404, "unknown_model")


def test_sales_alone_extend_a_dataset_and_a_refit_says_which_sources_end_early(client: Client, plain: dict[str, Sheet]) -> None:
    weeks = sorted({str(row[plain["Sales"].header.index("Date")]) for row in plain["Sales"].rows})
    early = {name: sheet.only("Date", weeks[:50]) if name != "Events" else sheet for name, sheet in plain.items()}
    dataset = client.dataset(early)
    model = client.built(dataset)["IId"]
    more = client.joined([client.uploaded("Sales", plain["Sales"])], [dataset])
    assert client.dates(more)[-1] == weeks[-1]
    child = client.done("models", client.refit(model, more))
    assert "source_ends_early" in codes(child["Warnings"])


# The same every time; kills


def test_the_same_build_gives_the_same_bytes_and_another_seed_gives_others(server: Server, stock: tuple[Client, int]) -> None:
    client, dataset = stock
    params = {"inference": "vi", "epochs": 20}
    first, again, other = (client.built(dataset, TV, **params, seed=seed) for seed in (0, 0, 1))
    folders = [folder_of(server, model) for model in (first, again, other)]
    for name in ("draws.npy", "model.onnx"):
        contents = [(folder / name).read_bytes() for folder in folders]
        assert contents[0] == contents[1] != contents[2]


def test_a_kill_of_the_replica_or_the_server_during_a_fit_costs_one_attempt_and_changes_nothing(
    tmp_path: Path, plain: dict[str, Sheet]
) -> None:
    params = LONG | {"epochs": 4000}
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        client = new_project(server)
        dataset = client.dataset(plain)
        undisturbed = client.built(dataset, TV, **params)
        before = _work_of_fits(server)
        iid = running(client, client.build(dataset, TV, **params))
        _kill_fit(server, before)
        _assert_as_undisturbed(client, iid, undisturbed)
        iid = running(client, client.build(dataset, TV, **params))
        server.stop(signal.SIGKILL)
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server:
        _assert_as_undisturbed(client.but(server=server), iid, undisturbed)


def _work_of_fits(server: Server) -> dict[int, int]:
    """Ticks that each of the replicas that do jobs has worked. They have a niceness."""
    found = {}
    for pid in server.replica_pids():
        with suppress(FileNotFoundError):  # one that has worked enough ends between two jobs
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if int(fields[16]) > os.nice(0):
                found[pid] = int(fields[11]) + int(fields[12])
    return found


def _kill_fit(server: Server, before: dict[int, int]) -> None:
    """End the replica that has worked most since then: the one that fits."""
    now = _work_of_fits(server)
    os.kill(max(now, key=lambda pid: now[pid] - before.get(pid, 0)), signal.SIGKILL)


def _assert_as_undisturbed(client: Client, iid: int, undisturbed: dict[str, Any]) -> None:
    model = client.waited(f"/models/{iid}")
    assert (model["Status"], model["Attempt"]) == ("completed", 2)
    assert model["Served"]["Version"] == 1
    assert model["Metrics"] == undisturbed["Metrics"]
    ours, theirs = (folder_of(client.server, each) for each in (model, undisturbed))
    for name in ("draws.npy", "model.onnx"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert sorted(path.name for path in ours.iterdir()) == sorted(FILES)


# Served, removed


def test_hundreds_of_models_cost_replicas_nothing_until_they_are_asked_for(server: Server, stock: tuple[Client, int]) -> None:
    client, dataset = stock
    model = client.built(dataset, TV)
    title = model["Served"]["Name"]
    loads = f'sluice_model_loads_total{{model="{title}",outcome="loaded"}}'
    assert server.metric(loads) == 0
    shown = client.but(base="").ask("GET", f"/api/models/{title}").json()
    record = shown["example"]
    answer = client.but(base="").ask("POST", f"/{title.replace('/', '/models/')}/", json=record)
    assert answer.status_code == 200, answer.text
    assert server.metric(loads) == 1
    active = client.built(dataset, TV, seed=1)
    loads_of_active = loads.replace(title, active["Served"]["Name"])
    made(client.patch(f"/models/{active['IId']}/activate"), 200)
    until(lambda: server.metric(loads_of_active) == 1)
    made(client.patch(f"/models/{model['IId']}/activate"), 200)
    until(lambda: not is_open(client, active))
    assert is_open(client, model)
    made(client.patch(f"/models/{active['IId']}/activate"), 200)
    until(lambda: server.metric(loads_of_active) == 2)


def is_open(client: Client, model: dict[str, Any]) -> bool:
    """Whether the replica has the model open."""
    shown = client.but(base="").ask("GET", f"/api/models/{model['Served']['Name']}").json()
    return bool(shown["status"] == "online")


def test_a_model_is_removed_with_its_files_unless_something_was_made_of_it(
    server: Server, client: Client, plain: dict[str, Sheet]
) -> None:
    dataset = client.dataset(plain)
    model = client.built(dataset, TV)
    child = client.done("models", client.refit(model["IId"], dataset))
    error = refused(client.delete(f"/models/{model['IId']}"), 409, "in_use")
    assert error["Details"][0]["IId"] == child["IId"]
    for one in (child, model):
        assert client.delete(f"/models/{one['IId']}").status_code == 204
        refused(client.get(f"/models/{one['IId']}"), 404, "unknown_model")
        assert not folder_of(server, one).exists()
        answer = client.but(base="").ask("GET", f"/api/models/{one['Served']['Name']}")
        assert answer.status_code == 404
    assert made(client.get("/models"), 200) == []
    assert client.built(dataset, TV)["IId"] == child["IId"] + 1, "a number is never used again"


def test_the_graph_of_a_model_goes_with_the_last_model_that_has_it_and_a_saved_one_stays(
    client: Client, plain: dict[str, Sheet]
) -> None:
    def statuses(model: dict[str, Any]) -> list[int]:
        instance = model["GraphInstance"]
        answers = (
            client.get(f"/build/graphs/{instance['Graph']['Id']}"),
            client.ask("GET", f"/graph_instances/{client.team}/{instance['Id']}"),
        )
        return [answer.status_code for answer in answers]

    dataset = client.dataset(plain)
    saved = made(client.post("/build/graphs", TV))["Id"]
    model, other = client.built(dataset, TV), client.built(dataset, TV, seed=1)
    child = client.done("models", client.refit(model["IId"], dataset))
    for one, expected in ((child, [200, 200]), (model, [404, 404])):
        assert client.delete(f"/models/{one['IId']}").status_code == 204
        assert statuses(one) == expected
    assert statuses(other) == [200, 200]
    made(client.get(f"/build/graphs/{saved}"), 200)
    newer = made(client.post("/build/graphs", TV))["Id"]
    assert newer > other["GraphInstance"]["Graph"]["Id"], "a number is never used again"


def test_models_are_listed_without_their_results(full: Full) -> None:
    listed = made(full.client.get("/models", limit=1000), 200)
    [one] = [model for model in listed if model["IId"] == full.model["IId"]]
    assert one.keys() <= full.model.keys()
    assert not {"Metrics", "Diagnostics", "Scales"} & one.keys()
    assert [model["IId"] for model in listed] == sorted((model["IId"] for model in listed), reverse=True)


def test_response_curves_are_those_of_media(full: Full) -> None:
    curves = made(full.client.get(f"/models/{full.model['IId']}/response"), 200)
    assert [curve["Node"] for curve in curves] == ["media.radio", "media.tv"]
    refused(full.client.get(f"/models/{full.model['IId']}/response", node="control.income"), 422, "bad_field")
    assert MAP["inference"] == full.model["ModelParam"]["inference"]
