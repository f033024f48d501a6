"""What holds for every answer of preview: headers, methods, caching, compression, waiting."""

import gzip
import time
from typing import Any

import pytest
import requests

from handlers.openapi import public_path
from handlers.preview import ROUTES
from handlers.preview.admission import SURFACE
from tests.fixtures.preview import front_matter, picture
from tests.preview.asking import get, lay_in, refused, rows
from tests.serving import Server, serving

PEOPLE = {"dataset": "people", "config": "default", "split": "train"}
EXPOSED = "X-Error-Code, X-Revision, X-Preview-Status, X-Preview-Truncated, X-Queue-Position, Retry-After, ETag, Content-Range"
# The page for people keeps the rules of pages: test_page.py.
GETS = sorted(
    {public_path(route) for route in ROUTES if route.surface is SURFACE and route.method == "GET" and "{" not in route.path}
)
DATA = ["/splits", "/rows", "/first-rows", "/v2/rows", "/size", "/parquet", "/statistics"]


def raw(method: str, server: Server, path: str, **headers: str) -> requests.Response:
    return requests.request(method, server.url + path, headers=headers, timeout=30, allow_redirects=False)


@pytest.mark.parametrize("path", [*GETS, "/healthcheck"])
def test_a_trailing_slash_redirects_and_keeps_the_query(house: Server, path: str) -> None:
    answer = raw("GET", house, path + "/?a=%2F&b")
    assert answer.status_code == 307
    assert answer.headers["Location"] == path + "?a=%2F&b"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", [*GETS, "/healthcheck"])
def test_head_is_answered_like_get_without_a_body(house: Server, path: str) -> None:
    wanted, found = get(house, path, **PEOPLE), requests.head(house.url + path, params=PEOPLE, timeout=30)
    assert (found.status_code, found.content) == (wanted.status_code, b"")
    assert found.headers["Content-Type"] == wanted.headers["Content-Type"]


@pytest.mark.parametrize("path", [*GETS, "/healthcheck", "/assets/a/--/b/c/0/d/e.png"])
def test_another_method_is_405_with_six_keys(house: Server, path: str) -> None:
    answer = raw("PUT", house, path)
    refused(answer, 405, "MethodNotAllowed")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["/webhook", "/refresh-split"])
def test_a_hook_takes_post_alone(house: Server, path: str) -> None:
    answer = raw("GET", house, path)
    refused(answer, 405, "MethodNotAllowed")
    assert answer.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("path", [*GETS, "/webhook", "/refresh-split", "/healthcheck", "/parquet/a/--/b/c/0000.parquet"])
def test_options_says_what_a_page_may_send(house: Server, path: str) -> None:
    answer = raw("OPTIONS", house, path, Origin="https://elsewhere.example", **{"Access-Control-Request-Method": "GET"})
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, OPTIONS"
    assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, Range, If-None-Match, X-Webhook-Secret"
    assert answer.headers["Access-Control-Max-Age"] == "86400"


def test_every_answer_may_be_read_by_every_page(house: Server) -> None:
    etag = rows(house, "people").headers["ETag"]
    answers = [
        get(house, "/rows", **PEOPLE),
        get(house, "/rows", headers={"If-None-Match": etag, "Accept-Encoding": "gzip"}, **PEOPLE),
        get(house, "/rows"),
        get(house, "/rows", dataset="nobody/nothing", config="a", split="b"),
        get(house, "/rows", auth=("admin", "0" * 32), **PEOPLE),
        get(house, "/v2/rows", offset="x", **PEOPLE),
        get(house, "/assets/people/--/default/train/0/a/b.png"),
        get(house, "/assets/nothing"),
        get(house, "/cache"),
        requests.post(house.url + "/webhook", data=b"", timeout=30),
        get(house, "/healthcheck"),
    ]
    assert [answer.status_code for answer in answers] == [200, 304, 400, 404, 401, 422, 404, 404, 200, 400, 200]
    for answer in answers:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Access-Control-Expose-Headers"] == EXPOSED


def test_an_answer_that_was_encoded_before_has_the_headers_of_every_answer(house: Server) -> None:
    """`/cache` is put together by aiohttp for each request."""
    usual = get(house, "/cache").headers
    shared = {name for name in usual if name.startswith(("Access-Control", "X-Content-Type", "Server"))}
    assert len(shared) == 4
    for path, params in (("/rows", PEOPLE), ("/is-valid", {"dataset": "people"})):
        for _ in range(2):
            answer = get(house, path, **params)
            assert {name: answer.headers[name] for name in shared} == {name: usual[name] for name in shared}
            known = get(house, path, headers={"If-None-Match": answer.headers.get("ETag", "")}, **params)
            assert {name: known.headers[name] for name in shared} == {name: usual[name] for name in shared}


def test_a_page_of_another_origin_may_post_but_not_with_what_a_browser_attaches(house: Server) -> None:
    foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    post = house.url + "/webhook"
    assert requests.post(post, data=b"{}", headers=foreign, timeout=30).status_code == 200
    assert requests.post(post, data=b"{}", headers=foreign, auth=house.auth, timeout=30).status_code == 403
    bearer = foreign | {"Authorization": f"Bearer {house.key}"}
    assert requests.post(post, data=b"{}", headers=bearer, timeout=30).status_code == 200


def test_json_has_no_charset_and_is_compact_with_letters_as_they_are(house: Server) -> None:
    answer = rows(house, "people", "test")
    assert answer.headers["Content-Type"] == "application/json"
    assert "zoë".encode() in answer.content
    assert b", " not in answer.content
    assert get(house, "/cache").headers["Content-Type"] == "application/json"


def test_the_healthcheck_is_text_that_nobody_keeps(house: Server) -> None:
    answer = get(house, "/healthcheck")
    assert answer.text == "ok"
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "params", "wanted"),
    [
        ("/valid", {}, "public, max-age=120"),
        ("/is-valid", {"dataset": "people"}, "public, max-age=120"),
        ("/hf_datasets", {}, "public, max-age=120"),
        ("/hf-datasets-count-by-cache-status", {}, "public, max-age=120"),
        ("/splits", PEOPLE, "public, max-age=120"),
        ("/rows", PEOPLE, "public, max-age=120"),
        ("/first-rows", PEOPLE, "public, max-age=120"),
        ("/cache", {}, "public, max-age=10"),
        ("/cache-reports", {}, "public, max-age=10"),
        ("/queue", {}, "public, max-age=10"),
        ("/queue-dump", {}, "public, max-age=10"),
        ("/queue-dump-waiting-started", {}, "public, max-age=10"),
        ("/rows", {}, "public, max-age=10"),
        ("/rows", {**PEOPLE, "split": "other"}, "public, max-age=10"),
        ("/v2/rows", {**PEOPLE, "length": "0"}, "public, max-age=10"),
    ],
)
def test_how_long_an_answer_may_be_kept(house: Server, path: str, params: dict[str, Any], wanted: str) -> None:
    assert get(house, path, **params).headers["Cache-Control"] == wanted


def test_what_is_never_kept(house: Server) -> None:
    wrong = get(house, "/rows", auth=("admin", "0" * 32), **PEOPLE)
    assert (wrong.status_code, wrong.headers["Cache-Control"]) == (401, "no-store")
    assert requests.post(house.url + "/webhook", data=b"{}", timeout=30).headers["Cache-Control"] == "no-store"


def test_an_age_of_zero_means_that_nobody_keeps_it(tmp_path: Any) -> None:
    with serving(
        tmp_path / "data", SLUICE_SCORE_REPLICAS="1", MAX_AGE_LONG_SECONDS="0", SLUICE_MAX_AGE_SHORT_SECONDS="-1"
    ) as server:
        assert get(server, "/valid").headers["Cache-Control"] == "no-store"
        assert get(server, "/cache").headers["Cache-Control"] == "no-store"


def test_names_of_settings_that_services_of_that_age_had_are_heeded(tmp_path: Any) -> None:
    """Those of jobs are in test_workers, test_interrupted and test_hub, and that ours win in tests/server/test_config.py."""
    older = {"APP_HOSTNAME": "127.0.0.2", "APP_PORT": "0", "ASSETS_DIRECTORY": str(tmp_path / "files"), "LOG_LEVEL": "debug"}
    older |= {"MAX_AGE_LONG_SECONDS": "60", "MAX_AGE_SHORT_SECONDS": "5", "DATASETS_ENABLE_PRIVATE": "False"}
    older |= {"ROWS_MAX_NUMBER": "4", "ROWS_MIN_NUMBER": "2", "ROWS_MAX_BYTES": "1_000", "MONGO_URL": "mongodb://x"}
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_PORT="", **older) as server:
        assert server.url.startswith("http://127.0.0.2:")
        lay_in(server, "hidden", {"README.md": front_matter("private: true"), "train.csv": "a\n1\n"})
        lay_in(server, "long", {"train.csv": "a,b\n" + f"{'x' * 900},1\n" * 9})
        lay_in(server, "short", {"train.csv": "a\n" + "1\n" * 9})
        lay_in(server, "pics", {"README.md": "# P\n", "train/a.png": picture()})
        refused(get(server, "/splits", auth=server.auth, dataset="hidden"), 404, "DatasetNotFound")
        answers = {name: rows(server, name) for name in ("long", "short", "pics")}
        assert {name: len(answer.json()["rows"]) for name, answer in answers.items()} == {"long": 2, "short": 4, "pics": 1}
        assert len(answers["long"].content) <= 1000
        assert answers["short"].headers["Cache-Control"] == "public, max-age=60"
        assert get(server, "/queue").headers["Cache-Control"] == "public, max-age=5"
        assert len(list((tmp_path / "files").rglob("image.jpg"))) == 1


@pytest.mark.parametrize("path", DATA)
def test_data_is_compared_by_its_etag(house: Server, path: str) -> None:
    answer = get(house, path, wait=30, headers={"Accept-Encoding": "identity"}, **PEOPLE)
    assert answer.status_code == 200, answer.text
    etag, revision = answer.headers["ETag"], answer.headers["X-Revision"]
    assert len(etag) == 18
    assert len(revision) == 40
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        same = get(house, path, headers={"Accept-Encoding": "identity", "If-None-Match": value}, **PEOPLE)
        assert (same.status_code, same.content) == (304, b""), value
        for name in ("ETag", "X-Revision", "Cache-Control"):
            assert same.headers[name] == answer.headers[name]
    other = get(house, path, headers={"Accept-Encoding": "identity", "If-None-Match": '"other"'}, **PEOPLE)
    assert other.status_code == 200


@pytest.mark.parametrize("path", ["/rows", "/first-rows", "/statistics", "/queue-dump"])
def test_a_long_body_is_compressed_for_those_who_take_it(house: Server, path: str) -> None:
    plain = requests.get(house.url + path, params=PEOPLE, headers={"Accept-Encoding": "identity"}, timeout=30)
    raw_answer = requests.get(house.url + path, params=PEOPLE, headers={"Accept-Encoding": "gzip"}, timeout=30, stream=True)
    assert raw_answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in raw_answer.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    unpacked = gzip.decompress(raw_answer.raw.read())
    if path in DATA:
        assert unpacked == plain.content
        assert raw_answer.headers["ETag"] == plain.headers["ETag"][:-1] + '-gz"'
    refusing = requests.get(house.url + path, params=PEOPLE, headers={"Accept-Encoding": "gzip;q=0"}, timeout=30)
    assert "Content-Encoding" not in refusing.headers


def test_a_short_body_is_not_compressed(house: Server) -> None:
    assert "Content-Encoding" not in get(house, "/cache", headers={"Accept-Encoding": "gzip"}).headers


def test_the_first_value_counts_and_an_empty_one_is_missing(house: Server) -> None:
    twice = requests.get(house.url + "/splits?dataset=people&dataset=other&whatever=1", timeout=30)
    assert twice.status_code == 200
    assert requests.get(house.url + "/splits?dataset=&dataset=people", timeout=30).status_code == 400
    assert requests.get(house.url + "/rows?dataset=people&config=default&split=train&offset=", timeout=30).status_code == 200


def test_whoever_waits_gets_rows_that_were_laid_down_just_now(house: Server) -> None:
    lay_in(house, "fresh", {"train.csv": "a\n1\n"})
    answer = requests.get(house.url + "/rows?dataset=fresh&config=default&split=train&wait=20", timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rows"][0]["row"] == {"a": 1}


def test_who_does_not_wait_is_told_when_to_come_again(tmp_path: Any) -> None:
    with serving(tmp_path / "data", SLUICE_SCORE_REPLICAS="1", SLUICE_JOBS_REPLICAS="0") as server:
        for name in ("one", "two"):
            lay_in(server, name, {"train.csv": "a\n1\n"})
            answer = get(server, "/splits", dataset=name, wait="soon")
            refused(answer, 404, "DatasetNotReady", "The dataset is being processed. Retry later.")
        assert (answer.headers["X-Queue-Position"], answer.headers["Retry-After"]) == ("1", "5")
        assert answer.headers["Cache-Control"] == "public, max-age=5"
        first = get(server, "/splits", dataset="one")
        assert (first.headers["X-Queue-Position"], first.headers["Retry-After"]) == ("0", "1")
        assert first.headers["Cache-Control"] == "public, max-age=1"
        began = time.monotonic()
        refused(get(server, "/splits", dataset="one", wait="0.5"), 404, "DatasetNotReady")
        assert 0.5 <= time.monotonic() - began < 10
