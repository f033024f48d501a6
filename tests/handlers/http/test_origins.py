"""A page of another origin changes nothing with the credentials that a browser keeps; programs notice nothing of this."""

from collections.abc import Iterator

import pytest
import requests

from tests.clients import Raw
from tests.serving import Server, serving
from tests.streaming.test_websocket import HANDSHAKE

APP = "https://app.example.org"
FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "evil.example:9000", "Origin": "http://evil.example:9000"},
    {"Host": "evil.example:9000", "Origin": "http://evil.example:9000", "Sec-Fetch-Site": "same-origin"},
]
CHANGES = [
    ("POST", "/api/keys"),
    ("POST", "/api/users"),
    ("POST", "/api/models/reload"),
    ("POST", "/brandon/models/HelloWorld"),
    ("POST", "/embeddings"),
    ("POST", "/v1/embeddings"),
    ("PUT", "/admin/models/x"),
    ("PATCH", "/api/models/admin/x"),
    ("DELETE", "/admin/models/x"),
]


def ask(server: Server, method: str, path: str, **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return requests.request(method, server.url + path, auth=server.auth, headers=named, data=b"{}", timeout=30)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_what_changes_something_is_refused_to_a_page_of_another_origin(server: Server, method: str, path: str) -> None:
    for headers in FOREIGN:
        assert ask(server, method, path, **headers).status_code == 403, headers


def test_a_page_of_another_origin_opens_no_websocket(server: Server) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 101)):
        with Raw(server) as client:
            client.ask("GET", "/brandon/models/HelloWorld", **HANDSHAKE, Origin=server.url, Sec_Fetch_Site=site)
            assert client.head().status == status


def test_our_own_pages_and_programs_are_served(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    for headers in (
        {},
        {"Origin": server.url},
        {"Origin": server.url, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"},
        {"Host": "10.1.2.3", "Origin": "http://10.1.2.3"},
        {"Host": "sluice.example", "Origin": "https://sluice.example"},  # a proxy with TLS that passes the name on
        {"Origin": "https://sluice.example", "Sec-Fetch-Site": "same-origin"},  # and one that does not
        {"Host": "anything.example"},
    ):
        assert ask(server, "POST", "/verify", **headers).status_code == 200, headers


def test_reading_asks_for_no_origin(server: Server) -> None:
    for headers in FOREIGN:
        answer = ask(server, "GET", "/models", **headers)
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_every_answer_forbids_guessing_and_names_no_version(server: Server) -> None:
    for method, path in (*CHANGES, ("GET", "/healthcheck"), ("GET", "/docs"), ("GET", "/docs/start.js"), ("GET", "/nowhere")):
        answer = ask(server, method, path)
        assert (answer.headers["X-Content-Type-Options"], answer.headers["Server"]) == ("nosniff", "Sluice"), path
    with Raw(server) as client:
        client.send(b"this is no request\r\n\r\n")
        assert client.head().headers["server"] == "Sluice"


def test_no_preflight_is_answered_by_default(server: Server) -> None:
    answer = preflight(server, "/embeddings")
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


# Settings


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"SLUICE_HOSTS": "Sluice.example", "SLUICE_CORS_ORIGINS": APP, "SLUICE_SCORE_REPLICAS": "1"}
    with serving(tmp_path_factory.mktemp("listed") / "data", **settings) as running:
        yield running


def preflight(server: Server, path: str, origin: str = APP) -> requests.Response:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return requests.options(server.url + path, headers={"Origin": origin} | asked, timeout=30)


@pytest.mark.parametrize("path", ["/embeddings", "/v1/embeddings", "/models", "/v1/models"])
def test_a_page_of_a_listed_origin_may_embed(listed: Server, path: str) -> None:
    answer = preflight(listed, path)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Vary"] == "Origin"
    method = "GET" if "models" in path else "POST"
    sent = ask(listed, method, path, Origin=APP, Sec_Fetch_Site="cross-site")
    assert sent.status_code != 403
    assert sent.headers["Access-Control-Allow-Origin"] == APP
    assert "Access-Control-Allow-Credentials" not in sent.headers
    assert preflight(listed, path, "https://evil.example").status_code in (404, 405)


def test_a_listed_origin_opens_the_embeddings_and_nothing_else(listed: Server) -> None:
    for method, path in CHANGES:
        if "embeddings" not in path:
            answer = ask(listed, method, path, Origin=APP, Sec_Fetch_Site="cross-site")
            assert answer.status_code == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Access-Control-Allow-Origin" not in preflight(listed, "/brandon/models/HelloWorld").headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("sluice.example", 200),
        ("SLUICE.example:9000", 200),
        ("sluice.example.", 200),
        ("localhost", 200),
        ("127.0.0.1:9", 200),
        ("[::1]:9000", 200),
        ("10.0.0.7", 200),
        ("evil.example", 403),
        ("sluice.example.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_with_a_list_of_names_every_other_name_is_refused(listed: Server, host: str, status: int) -> None:
    with Raw(listed) as client:
        client.send(f"GET /healthcheck HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert client.head().status == status


def test_a_listed_name_is_an_origin_of_ours_behind_a_proxy_that_hides_it(listed: Server) -> None:
    assert ask(listed, "POST", "/verify", Origin="http://sluice.example").status_code == 200
