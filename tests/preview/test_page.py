"""The page for people, as Debian's chromium shows it, and its files as any client gets them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from handlers.http.pages import FILES, FOLDER
from tests.fixtures.preview import Content, front_matter, json_lines, picture, wav
from tests.preview.asking import get, hook, is_quiet, lay_in, rows, until
from tests.preview.browser import CONTRAST, Tab, chromium, tab
from tests.preview.test_workers import worker
from tests.serving import Server, serving

MARKUP = "<script>document.title='hit'</script><img src=//elsewhere.example/x>"
HELLO = "brandon/HelloWorld"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with these datasets, all of them read.

    people, ann/notes, broken   as other tests have them
    many, wide                  450 rows of six types; 60 columns
    wild                        markup everywhere
    pics, beasts, sounds        pictures, also with labels, and sound
    """
    lines = [
        {"n": n, "f": n / 4, "word": "abc"[n % 3], "text": f"{n}\n" * 9, "tree": {"a": [n]}, "big": 2**60 + n} for n in range(450)
    ]
    lines[1] |= {"n": None, "word": ""}
    card = front_matter(f"license: mit\ntags: ['{MARKUP.replace(chr(39), chr(34))}']") + MARKUP
    datasets: dict[str, dict[str, Content]] = {
        "people": {"train.csv": "name,age\n" + "".join(f"n{number},{number}\n" for number in range(150))},
        "ann/notes": {"train.txt": "one\ntwo\n"},
        "broken": {"train.csv": "a,b\n1,2\n1,2,3\n"},
        "many": {"README.md": front_matter("license: mit"), "train.jsonl": json_lines(lines), "test.jsonl": '{"n":7}\n'},
        "wide": {"train.jsonl": json_lines([{f"c{number}": number for number in range(60)}])},
        "wild": {"README.md": card, "train.jsonl": json_lines([{MARKUP: MARKUP, "image_url": "https://elsewhere.example/a.png"}])},
        "pics": {"README.md": "# Pictures\n", "train/a.png": picture(size=(20, 10)), "train/b.png": b"no picture"},
        "beasts": {"README.md": "# Beasts\n", "train/cat/a.png": picture(), "train/dog/b.png": picture()},
        "sounds": {"README.md": "# Sounds\n", "train/a.wav": wav()},
    }
    with serving(tmp_path_factory.mktemp("gallery") / "data", SLUICE_SCORE_REPLICAS="1") as server:
        for name, files in datasets.items():
            lay_in(server, name, files)
            assert rows(server, name).status_code == (400 if name == "broken" else 200)
        assert rows(server, "many", "test").status_code == 200
        until(lambda: is_quiet(server))
        yield server
        assert "Traceback" not in server.log


# Without a browser


@pytest.mark.parametrize(
    "path", ["/datasets", "/datasets/people", "/datasets/ann/notes", "/datasets/ann%2Fnotes", "/datasets/nothing"]
)
def test_the_page_is_open_and_forbids_everything_but_its_own_files(gallery: Server, path: str) -> None:
    page = requests.get(gallery.url + path, timeout=10)
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "//" not in page.text
    assert "style=" not in page.text
    assert requests.head(gallery.url + path, timeout=10).status_code == 200
    slashed = requests.get(gallery.url + path + "/", timeout=10, allow_redirects=False)
    assert (slashed.status_code, slashed.headers["Location"]) == (307, path)
    for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        assert requests.get(gallery.url + file, timeout=10).status_code == 200


def test_without_javascript_the_page_names_the_json_and_shows_a_name_as_text(gallery: Server) -> None:
    assert 'href="/hf_datasets"' in requests.get(f"{gallery.url}/datasets", timeout=10).text
    assert 'href="/splits?dataset=ann%2Fnotes"' in requests.get(f"{gallery.url}/datasets/ann/notes", timeout=10).text
    wild = requests.get(f'{gallery.url}/datasets/"><script>1<%2Fscript>', timeout=10)
    assert wild.status_code == 200
    assert "<script>1" not in wild.text


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_page_is_sent_once(gallery: Server, name: str) -> None:
    first = requests.get(f"{gallery.url}/static/{name}", timeout=10)
    assert first.content == (FOLDER / name).read_bytes()
    again = requests.get(f"{gallery.url}/static/{name}", headers={"If-None-Match": first.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")


def test_the_files_of_the_page_are_small_and_write_no_markup() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 60_000
    script = "".join(path.read_text() for path in FOLDER.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b", script)


@pytest.mark.parametrize("path", ["/static/page.py", "/static/..%2fpage.py", "/static/%2fetc%2fpasswd", "/static/preview.js%00"])
def test_nothing_else_can_be_read_by_way_of_the_page(gallery: Server, path: str) -> None:
    assert requests.get(gallery.url + path, timeout=10).status_code == 404


# With a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Any, gallery: Server) -> Iterator[Tab]:
    """A tab that must have asked no other host and have nothing on its console."""
    with tab(browser) as one:
        yield one
        assert one.foreign(gallery.url) == []
        assert one.said == []


def shown(tab: Tab) -> list[str]:
    """The numbers of the rows."""
    return tab.texts("tbody th")


def test_an_empty_server_says_how_to_begin(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1") as server, tab(browser) as one:
        one.page.goto(f"{server.url}/datasets")
        one.state("There is no dataset yet.")
        assert "mkdir -p data/datasets/people" in one.texts("pre")[0]
        assert one.said == []


def test_the_list_has_states_with_reasons_and_can_be_narrowed(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets")
    page.state("datasets")
    items = {text.split("\n")[0]: text for text in page.texts("ul.list > li")}
    assert "ready" in items["people"]
    assert "licenses:mit" in items["many"]
    assert "expected 2 fields, saw 3" in items["broken"]
    assert "valid" in page.texts("#counters")[0]
    page.page.get_by_label("Filter").fill("wid")
    page.state("1 of")
    assert page.page.locator("ul.list > li:visible").count() == 1
    page.page.get_by_role("link", name="wide").click()
    page.state("ready")
    assert page.page.url == f"{gallery.url}/datasets/wide"


def test_a_dataset_shows_its_rows(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/many")
    page.state("ready")
    assert shown(page) == [str(number) for number in range(100)]
    assert page.texts("caption") == ["many, default, train: rows 0 to 99 of 450"]
    first, second = (page.texts(f"#row-{number} td") for number in (0, 1))
    assert first[0] == "0"
    assert first[5] == str(2**60)
    assert second[0] == "null"
    assert second[2] == "empty text"
    assert page.page.locator("#row-0 td").nth(1).get_attribute("class") == "number"
    assert first[4] == '{"a":[0]}'
    opener = page.page.locator("#row-0").get_by_role("button", name="open")
    opener.click()
    assert page.page.locator("#row-0 button").get_attribute("aria-expanded") == "true"
    assert "Licence: mit" in page.page.locator("#about").inner_text()
    page.page.locator("#size", has_text="451 rows").wait_for()


def test_an_address_shows_another_reader_the_same(gallery: Server, page: Tab, browser: Any) -> None:
    page.page.goto(f"{gallery.url}/datasets/many")
    page.state("ready")
    page.page.get_by_role("link", name="Next").click()
    page.page.locator("#row-100").wait_for()
    page.page.get_by_label("Row", exact=True).fill("241")
    page.page.get_by_role("button", name="Go to row").click()
    page.page.locator("#row-241.marked").wait_for()
    assert page.page.url.endswith("offset=200#row-241")
    with tab(browser) as other:
        other.page.goto(page.page.url)
        other.page.locator("#row-241.marked").wait_for()
        assert shown(other) == shown(page) == [str(number) for number in range(200, 300)]
    page.page.get_by_role("link", name="Last").click()
    page.page.locator("#row-449").wait_for()
    page.page.go_back()
    page.page.locator("#row-241.marked").wait_for()
    page.page.get_by_label("Split").select_option("test")
    page.page.locator("caption", has_text="test: rows 0 to 0 of 1").wait_for()
    with tab(browser) as other:
        other.page.goto(page.page.url)
        other.page.locator("caption", has_text="test: rows 0 to 0 of 1").wait_for()


def test_a_histogram_has_the_numbers_of_the_statistics(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/many")
    told = get(gallery, "/statistics", dataset="many", config="default", split="train").json()["statistics"]
    by_name = {one["column_name"]: one["column_statistics"] for one in told}
    page.page.locator("th[data-column=f] svg").wait_for()
    for name in ("n", "f", "text"):
        counts = page.page.locator(f"th[data-column={name}] rect").evaluate_all("all => all.map(one => +one.dataset.count)")
        assert counts == by_name[name]["histogram"]["hist"]
        edges = by_name[name]["histogram"]["bin_edges"]
        numbers = page.page.locator(f"th[data-column={name}] li").evaluate_all("all => all.map(one => one.textContent)")
        assert len(numbers) == len(counts) == len(edges) - 1
        assert numbers[0].endswith(f": {counts[0]}")
    words = page.page.locator("th[data-column=word] li").evaluate_all("all => all.map(one => one.textContent)")
    assert sorted(words) == sorted(f"{word}: {number}" for word, number in by_name["word"]["frequencies"].items())
    assert "0.2% null" in page.texts("th[data-column=n]")[0]
    labels = page.page.locator("th svg").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert {"histogram of the values of n", "histogram of the lengths of text", "most frequent values of word"} <= set(labels)


def test_pictures_are_drawn_and_sound_has_controls(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/pics")
    page.state("ready")
    until_drawn(page, "td img", 20)
    page.page.goto(f"{gallery.url}/datasets/sounds")
    page.state("ready")
    assert page.page.locator("td audio[controls]").count() == 1


def test_labels_are_shown_by_name(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/beasts")
    page.state("ready")
    assert [text for text in page.texts("td") if text] == ["cat", "dog"]


def test_old_rows_say_why_they_are_old(gallery: Server, page: Tab) -> None:
    folder = lay_in(gallery, "turned", {"train.csv": "a\n1\n"})
    assert rows(gallery, "turned").status_code == 200
    until(lambda: is_quiet(gallery))
    (folder / "train.csv").write_text("a\n1,2\n")
    hook(gallery, {"update": "datasets/turned"})
    until(lambda: "X-Error-Code" in rows(gallery, "turned").headers and is_quiet(gallery))
    page.page.goto(f"{gallery.url}/datasets/turned")
    page.state("old rows: the refresh failed")
    page.state("expected 1 fields, saw 2")
    assert page.texts("tbody td") == ["1"]


def until_drawn(page: Tab, selector: str, width: int) -> None:
    page.page.wait_for_function(
        "([selector, width]) => document.querySelector(selector)?.naturalWidth === width", arg=[selector, width]
    )


def test_markup_is_text_everywhere(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets")
    page.state("datasets")
    page.page.goto(f"{gallery.url}/datasets/wild")
    page.state("ready")
    assert page.page.locator("th .name").first.inner_text() == MARKUP
    assert MARKUP in page.texts("td")
    assert page.page.locator("td a").get_attribute("href") == "https://elsewhere.example/a.png"
    page.page.goto(f"{gallery.url}/datasets/wild?split={MARKUP}")
    page.state("not found")
    assert page.page.title() == "wild: dataset"
    assert page.page.locator("main script, main img").count() == 0
    page.said = [text for text in page.said if "404 (Not Found)" not in text]  # the browser's own word on the split


def test_columns_from_the_51st_on_are_behind_a_button(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/wide")
    page.state("ready")
    assert page.page.locator("thead th").count() == 51
    page.page.get_by_role("button", name="Show 10 more columns").click()
    assert page.page.locator("thead th").count() == 61


def test_a_broken_dataset_says_why(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/broken")
    page.state("ParserError: line 3: expected 2 fields, saw 3")
    page.page.goto(f"{gallery.url}/datasets/nothing")
    page.state("not found")
    page.said = [text for text in page.said if "Failed to load resource" not in text]  # the browser's own word on 400 and 404


def test_a_waiting_dataset_fills_by_itself(browser: Any, tmp_path: Path) -> None:
    """The server does no jobs itself, so that the dataset waits until workers come."""
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0") as server, tab(browser) as one:
        lay_in(server, "slow", {"train.csv": "a\n1\n2\n"})
        one.page.goto(f"{server.url}/datasets/slow")
        one.state("being processed, no job before it")
        assert one.page.locator("tbody tr").count() == 0
        with worker(server, "datasets"), worker(server, "splits"):
            one.state("ready")
        assert one.texts("tbody td") == ["1", "2"]
        assert one.said == []


def test_a_key_shows_private_datasets_with_pictures_and_predicts(gallery: Server, page: Tab) -> None:
    card = front_matter("private: true")
    lay_in(gallery, "ann/secret", {"README.md": card, "train/a.png": picture(size=(12, 10)), "train/b.png": picture(size=(12, 10))})
    url = f"{gallery.url}/datasets/ann/secret"
    page.page.goto(url)
    page.state("not found")
    page.page.get_by_label("Key").fill(gallery.key)
    page.page.get_by_role("button", name="Use key").click()
    page.state("ready")
    until_drawn(page, "td img[src^='blob:']", 12)
    assert gallery.key not in page.page.url
    page.page.goto(f"{gallery.url}/datasets/people")
    page.page.get_by_label("Predict with").select_option(HELLO)
    page.page.locator("thead th").last.get_by_text(f"predict:{HELLO}").wait_for()
    assert "Hello n0" in page.texts("#row-0 td")[-1]
    assert "predict=" in page.page.url
    page.said = [text for text in page.said if "404 (Not Found)" not in text]


def test_the_page_can_be_used_with_the_keyboard_alone(gallery: Server, page: Tab) -> None:
    page.page.goto(f"{gallery.url}/datasets/many")
    page.state("ready")
    focus(page, "Next")
    page.page.keyboard.press("Enter")
    page.page.locator("#row-100").wait_for()
    assert page.page.evaluate("document.activeElement.textContent") == "Next"
    outline = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    focus(page, "open")
    page.page.keyboard.press("Space")
    assert page.page.evaluate("document.activeElement.textContent") == "close"
    unnamed = page.page.locator("a, button, select, input, [role=region]").evaluate_all(
        "all => all.filter(one => !(one.textContent || one.ariaLabel || one.labels?.[0]?.textContent)).length"
    )
    assert unnamed == 0


def focus(page: Tab, text: str) -> None:
    """Press Tab until the control with this text has the focus."""
    for _ in range(400):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.textContent") == text:
            return
    raise AssertionError(f"the keyboard does not reach {text}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_legible_light_and_dark_and_at_320_pixels(gallery: Server, browser: Any, scheme: str) -> None:
    with tab(browser, color_scheme=scheme, viewport={"width": 320, "height": 640}) as one:
        for path in ("/datasets", "/datasets/many#row-1"):
            one.page.goto(gallery.url + path)
            one.state("ready" if "many" in path else "datasets")
            assert one.page.evaluate(CONTRAST) == []
            assert one.page.evaluate("document.documentElement.scrollWidth") <= 320
        assert one.said == []


def test_what_is_shown_can_be_had_in_other_ways(gallery: Server, browser: Any) -> None:
    with tab(browser, permissions=["clipboard-read", "clipboard-write"]) as one:
        one.page.goto(f"{gallery.url}/datasets/ann/notes")
        one.page.get_by_role("button", name="Copy Parquet").wait_for()
        one.page.get_by_role("button", name="Copy curl").click()
        one.page.get_by_text("copied").wait_for()
        command = one.page.evaluate("navigator.clipboard.readText()")
        url = re.fullmatch(r"curl -sS '(\S+)'", command)
        assert url is not None
        assert [line["row"]["text"] for line in requests.get(url[1], timeout=30).json()["rows"]] == ["one", "two"]
        _, python, sql, parquet = one.texts("section pre")
        assert python.startswith("import requests")
        assert parquet.endswith("/0000.parquet")
        answer = requests.post(f"{gallery.url}/api/query/v1", json={"query": sql}, auth=gallery.auth, timeout=60)
        assert answer.json()["data"] == [{"text": "one"}, {"text": "two"}]
