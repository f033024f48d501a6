"""The page at `/`: for people in a browser, at a terminal, and for programs."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.preview.browser import CONTRAST, Tab, chromium, tab
from tests.serving import Server, serving

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the models that ship, and no others."""
    with serving(tmp_path_factory.mktemp("front") / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_ANONYMOUS="none") as server:
        yield server
        assert "Traceback" not in server.log


def get(server: Server, **headers: str) -> requests.Response:
    return requests.get(f"{server.url}/", headers=headers, timeout=10)


# Without a browser


def test_a_terminal_gets_text_whose_command_works_as_it_stands(house: Server) -> None:
    text = subprocess.run(["curl", "-sS", f"{house.url}/"], capture_output=True, text=True, check=True, timeout=30).stdout
    assert f"{house.url}/docs" in text
    [command] = re.findall(r"^ +(curl .*)$", text, re.MULTILINE)
    asked = shlex.split(command.replace('"admin:$KEY"', f"admin:{house.key}"))
    answer = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout
    assert json.loads(answer)["result"] == {"greeting": "Hello Kermit"}
    assert answer.endswith("}\n")


def test_a_program_gets_json_that_says_where_to_read_on(house: Server) -> None:
    answer = get(house, Accept="application/json")
    assert answer.headers["Vary"] == "Accept"
    about = answer.json()
    assert (about["name"], about["status"]) == ("Sluice", "ok")
    assert about["version"] == requests.get(f"{house.url}/openapi.json", timeout=30).json()["info"]["version"]
    for path in about["links"].values():
        assert requests.get(house.url + path, auth=house.auth, timeout=30).status_code == 200


def test_the_page_is_open_and_forbids_everything_but_its_own_files(house: Server) -> None:
    page = get(house, **HTML)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert "//" not in page.text
    assert not re.search(r"<script(?! src=)|<style|\son\w+=", page.text)
    for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert requests.get(house.url + file, timeout=10).status_code == 200


@pytest.mark.parametrize("accept", [HTML["Accept"], "application/json", "*/*"])
def test_head_is_get_without_a_body(house: Server, accept: str) -> None:
    got, head = (requests.request(method, f"{house.url}/", headers={"Accept": accept}, timeout=10) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


def test_the_log_says_where_to_begin(house: Server) -> None:
    [line] = [line for line in house.log.splitlines() if "server listening" in line]
    assert f"address={house.url} docs={house.url}/docs key_file={house.data_dir / 'admin.key'}" in line
    assert "WARNING" not in house.log


# With a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any, house: Server) -> Iterator[Tab]:
    """A tab that must have asked no other host and have nothing on its console."""
    with tab(browser) as one:
        one.page.goto(f"{house.url}/")
        yield one
        assert one.foreign(house.url) == []
        assert [text for text in one.said if "Failed to load resource" not in text] == []  # the browser's own word on 401


def use_key(tab: Tab, key: str) -> None:
    tab.page.get_by_label("Key").fill(key)
    tab.page.get_by_role("button", name="Use key").click()
    tab.state("models")


def opened(tab: Tab, model: str) -> Any:
    """The item of a model, whose form is there."""
    item = tab.page.locator("li", has_text=model)
    item.locator("summary").click()
    item.get_by_role("button", name="Ask the model").wait_for()
    return item


def test_the_page_says_what_runs_here_and_where_the_key_is(house: Server, page: Tab) -> None:
    page.state("0 models")
    assert house.url in page.texts("#about")[0]
    assert "admin.key" in page.texts("#note")[0]
    assert page.texts("ul.list > li") == []
    links = page.page.locator("header a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    assert links == ["/", "/datasets", "/docs"]


def test_a_model_is_tried_with_its_example_and_with_other_values(house: Server, page: Tab) -> None:
    use_key(page, house.key)
    item = opened(page, "brandon/HelloWorld")
    assert item.get_by_label("name").input_value() == "Kermit"
    item.get_by_role("button", name="Ask the model").click()
    item.locator("pre.answer", has_text="Hello Kermit").wait_for()
    item.get_by_label("name").fill("it's <b>Ann</b>")
    item.get_by_label("name").press("Enter")
    item.locator("pre.answer", has_text="Hello it's <b>Ann</b>").wait_for()
    assert house.key not in page.page.url


def test_numbers_are_sent_as_numbers_and_an_empty_field_not_at_all(house: Server, page: Tab) -> None:
    use_key(page, house.key)
    item = opened(page, "sluice/iris")
    assert item.locator("label").all_inner_texts() == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    item.get_by_role("button", name="Ask the model").click()
    item.locator("pre.answer", has_text="setosa").wait_for()
    item.get_by_label("petal_length").fill("6")
    item.get_by_label("petal_width").fill("2.2")
    item.get_by_role("button", name="Ask the model").click()
    item.locator("pre.answer", has_text="virginica").wait_for()
    item.get_by_label("petal_width").fill("")
    item.get_by_role("button", name="Ask the model").click()
    item.locator("pre.answer", has_text="missing_field").wait_for()
    item.get_by_text("status 422").wait_for()


def test_the_command_beside_a_form_gives_the_same_answer(house: Server, page: Tab) -> None:
    use_key(page, house.key)
    item = opened(page, "brandon/HelloWorld")
    item.get_by_label("name").fill("it's Ann")
    command = item.locator("pre", has_text="curl").inner_text()
    assert command.endswith(f"{house.url}/brandon/models/HelloWorld")
    done = subprocess.run(["sh", "-c", command], env={"KEY": house.key, "PATH": "/usr/bin:/bin"}, capture_output=True, timeout=30)
    assert json.loads(done.stdout)["result"] == {"greeting": "Hello it's Ann"}


def test_the_command_beside_a_form_shows_the_key_to_no_other_user_of_the_machine(house: Server, page: Tab, tmp_path: Path) -> None:
    """A program in curl's place tells which arguments it got."""
    use_key(page, house.key)
    command = opened(page, "brandon/HelloWorld").locator("pre", has_text="curl").inner_text()
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\ncat\n')
    (tmp_path / "curl").chmod(0o700)
    environment = {"KEY": house.key, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True, timeout=30)
    *arguments, header = done.stdout.splitlines()
    assert not [argument for argument in arguments if house.key in argument]
    assert header == f"Authorization: Bearer {house.key}"


def test_every_model_that_ships_answers_its_form(house: Server, page: Tab) -> None:
    use_key(page, house.key)
    listed = requests.get(f"{house.url}/api/models", auth=house.auth, timeout=30).json()["models"]
    for model in listed:
        item = opened(page, f"{model['owner']}/{model['name']}")
        item.get_by_role("button", name="Ask the model").click()
        item.get_by_text("status 200").wait_for()


def test_a_wrong_key_is_told(page: Tab) -> None:
    page.state("0 models")
    page.page.get_by_label("Key").fill("0" * 32)
    page.page.get_by_role("button", name="Use key").click()
    page.state("The key is wrong.")


def test_without_a_key_the_shared_embedding_models_are_tried_where_that_is_open(server: Server, browser: Any) -> None:
    names = list(requests.get(f"{server.url}/models", timeout=30).json()["data"]["models"])
    with tab(browser) as one:
        one.page.goto(f"{server.url}/")
        one.state(f"{len(names)} model")
        assert [text.split(" ")[0] for text in one.texts("ul.list > li")] == names
        for name in names[:1]:
            item = opened(one, name)
            item.get_by_role("button", name="Ask the model").click()
            item.locator("pre.answer", has_text="embedding").wait_for()
        assert one.said == []


def test_the_form_is_used_with_the_keyboard_alone_and_every_control_has_a_name(house: Server, page: Tab) -> None:
    use_key(page, house.key)
    page.page.locator("li", has_text="brandon/HelloWorld").locator("summary").focus()
    page.page.keyboard.press("Enter")
    page.page.get_by_role("button", name="Ask the model").wait_for()
    page.page.keyboard.press("Tab")
    page.page.keyboard.type("Ann")
    assert page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.page.keyboard.press("Enter")
    page.page.locator("pre.answer", has_text="Hello Ann").wait_for()
    unnamed = page.page.locator("a, button, select, input, textarea, summary, [role=region]").evaluate_all(
        "all => all.filter(one => !(one.textContent || one.ariaLabel || one.labels?.[0]?.textContent)).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_legible_light_and_dark_and_at_320_pixels(house: Server, browser: Any, scheme: str) -> None:
    with tab(browser, color_scheme=scheme, viewport={"width": 320, "height": 640}) as one:
        one.page.goto(f"{house.url}/")
        use_key(one, house.key)
        item = opened(one, "sluice/iris")
        item.get_by_role("button", name="Ask the model").click()
        item.locator("pre.answer", has_text="setosa").wait_for()
        assert one.page.evaluate(CONTRAST) == []
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 320
