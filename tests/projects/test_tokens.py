"""A token is worth its user's full key on every surface until it ends, is shown once, and makes nothing that outlives it."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients import Raw, until
from tests.preview.browser import CHROMIUM, tab
from tests.projects.asking import BASES, refused
from tests.projects.people import Auth, ask, ask_as, later, new_token, new_user
from tests.publishing.asking import OCTETS, read_only
from tests.publishing.uploads import times
from tests.server.commands.test_user import user as command
from tests.serving import Server
from tests.streaming.test_websocket import CLOSE, HANDSHAKE, TEXT, RawSocket

PATH = "/user/access_tokens"
# A user with its password, and what ends that soon.
Ended = tuple[tuple[str, str], Callable[[], None]]
# One request of each surface that a full key may make, and that changes nothing.
SURFACES = {
    "streaming": ("POST", "/brandon/models/HelloWorld", {"json": {"name": "jim"}}),
    "embeddings": ("GET", "/models", {}),
    "embeddings of OpenAI": ("GET", "/v1/models", {}),
    "repository": ("GET", "/api/models", {}),
    "query": ("POST", "/api/query/v1", {"json": {"query": "SELECT 1"}}),
    "datasets": ("GET", "/api/datasets", {}),
    "preview": ("GET", "/queue", {}),
    "verify": ("POST", "/verify", {}),
    "projects": ("GET", "/api/v1/api/team/teams", {}),
    "projects, under the short base": ("GET", "/v1/team/teams", {}),
}
# A change is noticed within a second; the rest is for a slow machine.
SOON_S = 30


@pytest.fixture
def eva(server: Server) -> tuple[str, str]:
    return new_user(server)


def statuses(server: Server, auth: Auth) -> dict[str, int]:
    """How each surface answers this credential."""
    asked = {name: ask_as(auth, method, server.url + path, **more) for name, (method, path, more) in SURFACES.items()}
    return {name: answer.status_code for name, answer in asked.items()}


def words(server: Server, auth: Auth) -> set[str]:
    """What projects say of a credential that opens nothing."""
    return {ask(server, "GET", "/team/teams", auth, base=base).json()["Error"]["Code"] for base in BASES}


def make(server: Server, auth: Auth, **body: object) -> requests.Response:
    return ask(server, "POST", PATH, auth, json=body)


# What it opens


def test_a_token_opens_every_surface_as_a_bearer_and_as_a_password(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    allowed = statuses(server, eva)
    assert not {401, 403} & set(allowed.values())
    assert statuses(server, token) == allowed
    assert statuses(server, (eva[0], token)) == allowed


def test_a_token_under_another_name_opens_nothing(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    for name in ("admin", "", new_user(server)[0]):
        assert set(statuses(server, (name, token)).values()) == {401}
        refused(ask(server, "GET", "/team/teams", (name, token)), 401, "unauthorized")


def test_verify_takes_a_token_for_the_key(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    fields = {"username": eva[0], "apikey": token}
    assert requests.post(f"{server.url}/verify", data=fields, timeout=30).json() == {"success": "true"}


def test_the_token_of_the_admin_is_the_admin(server: Server) -> None:
    token = new_token(server)
    assert requests.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {token}"}, timeout=30).status_code == 200


@pytest.mark.parametrize("token", ["slu_", "slu_" + "A" * 43, "SLU_x", "slu_" + "A" * 5000, "slu_é"])
def test_what_only_looks_like_a_token_opens_nothing(server: Server, token: str) -> None:
    answer = requests.get(server.url + "/v1/team/teams", headers={"Authorization": f"Bearer {token}".encode()}, timeout=30)
    error = refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer, Basic realm="sluice"'
    assert error["Details"] == []


# What is shown of it


def test_the_value_stands_in_one_answer_and_nowhere_else(server: Server, eva: tuple[str, str]) -> None:
    made = make(server, eva, name="ci", expires_at=later(3600))
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    token = made.json()["Token"]
    assert token.startswith("slu_")
    assert len(token) == len("slu_") + 43, "32 bytes in base64url"
    assert {key: made.json()[key] for key in ("IId", "Name", "Prefix")} == {"IId": 1, "Name": "ci", "Prefix": token[:8]}
    statuses(server, token)
    listed = ask(server, "GET", PATH, eva)
    revoked = ask(server, "POST", f"{PATH}/1/revoke", eva)
    assert token[9:] not in listed.text + revoked.text
    assert "Token" not in listed.json()[0]
    assert "Token" not in revoked.json()
    for path in [*server.data_dir.rglob("*"), server.log_path]:
        if path.is_file():
            assert token[9:].encode() not in path.read_bytes(), path


def test_a_list_is_newest_first_and_comes_in_parts(server: Server, eva: tuple[str, str]) -> None:
    for name in ("first", "second", "third"):
        assert make(server, eva, name=name, expires_at=later(3600)).status_code == 201
    listed = ask(server, "GET", PATH + "/", eva).json()
    assert [(one["IId"], one["Name"]) for one in listed] == [(3, "third"), (2, "second"), (1, "first")]
    assert list(listed[0]) == ["IId", "Name", "Prefix", "ExpiresAt", "CreatedAt", "LastUsedAt", "RevokedAt"]
    assert [one["IId"] for one in ask(server, "GET", PATH + "?limit=1&before=3", eva).json()] == [2]
    assert ask(server, "GET", PATH + "?before=1", eva).json() == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=", "before=0", "before=-1", "before=٣", "before=" + "9" * 99]
)
def test_a_part_of_a_list_is_named_by_numbers(server: Server, eva: tuple[str, str], query: str) -> None:
    error = refused(ask(server, "GET", f"{PATH}?{query}", eva), 422, "bad_field")
    assert error["Details"][0]["Column"] == query.partition("=")[0]


def test_the_last_use_is_noted(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    assert ask(server, "GET", PATH, eva).json()[0]["LastUsedAt"] is None
    assert statuses(server, token)["streaming"] == 200
    [listed] = ask(server, "GET", PATH, eva).json()
    assert listed["CreatedAt"] <= listed["LastUsedAt"] < listed["ExpiresAt"]


def test_tokens_made_at_once_have_different_numbers(server: Server, eva: tuple[str, str]) -> None:
    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(lambda i: make(server, eva, name=f"{i}", expires_at=later(3600)).json(), range(10)))
    assert sorted(one["IId"] for one in made) == list(range(1, 11))
    assert len({one["Token"] for one in made}) == 10


# How it ends


def test_a_revoked_token_opens_nothing_at_once_and_says_why(server: Server, eva: tuple[str, str]) -> None:
    token, other = new_token(server, eva), new_token(server, eva)
    assert 401 not in statuses(server, token).values()
    assert ask(server, "DELETE", f"{PATH}/1", eva).status_code == 204
    assert set(statuses(server, token).values()) == {401}
    assert words(server, token) == {"token_revoked"}
    assert words(server, (eva[0], token)) == {"token_revoked"}
    assert words(server, ("admin", token)) == {"unauthorized"}, "nobody else learns what it was"
    assert 401 not in statuses(server, other).values()


def test_revoking_again_gives_the_same_answer(server: Server, eva: tuple[str, str]) -> None:
    new_token(server, eva)
    first = ask(server, "POST", f"{PATH}/1/revoke", eva)
    assert first.status_code == 200
    assert first.json()["RevokedAt"] is not None
    assert ask(server, "POST", f"{PATH}/1/revoke", eva).json() == first.json()
    assert [ask(server, "DELETE", f"{PATH}/1", eva).status_code for _ in range(2)] == [204, 204]
    assert ask(server, "GET", PATH, eva).json() == [first.json()]


def test_a_token_may_revoke_itself(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    assert ask(server, "DELETE", f"{PATH}/1", token).status_code == 204
    refused(ask(server, "DELETE", f"{PATH}/1", token), 401, "token_revoked")


@pytest.mark.parametrize("number", ["2", "0", "01x", "-1", "%D9%A3", "9" * 40])
def test_a_token_of_somebody_else_or_of_no_number_is_unknown(server: Server, eva: tuple[str, str], number: str) -> None:
    new_token(server, eva)
    other = new_user(server)
    for path in (number, "1"):
        refused(ask(server, "DELETE", f"{PATH}/{path}", other), 404, "unknown_token")
    refused(ask(server, "POST", f"{PATH}/{number}/revoke", eva), 404, "unknown_token")
    assert ask(server, "GET", PATH, eva).json()[0]["RevokedAt"] is None


def test_an_expired_token_opens_nothing_and_says_why(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva, seconds=6)
    assert ask(server, "GET", "/team/teams", token).status_code == 200
    until(lambda: ask(server, "GET", "/team/teams", token).status_code == 401, what="its end")
    assert set(statuses(server, token).values()) == {401}
    assert words(server, token) == {"token_expired"}
    [listed] = ask(server, "GET", PATH, eva).json()
    assert datetime.fromisoformat(listed["ExpiresAt"]) <= datetime.now(UTC), "not before its second"


def test_the_tokens_of_a_removed_user_end_with_it(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva)
    assert ask(server, "GET", "/team/teams", token).status_code == 200
    assert command(server.data_dir, "remove", eva[0]).returncode == 0
    until(lambda: ask(server, "GET", "/team/teams", token).status_code == 401, SOON_S)
    assert words(server, token) == {"unauthorized"}
    key = command(server.data_dir, "add", eva[0]).stdout.strip()
    until(lambda: ask(server, "GET", PATH, (eva[0], key)).status_code == 200, SOON_S)
    assert ask(server, "GET", PATH, (eva[0], key)).json() == [], "a namesake has none of them"
    refused(ask(server, "GET", "/team/teams", token), 401, "unauthorized")


# How it ends what runs


@pytest.fixture(params=["revoked", "expired"])
def ending(request: pytest.FixtureRequest, server: Server, eva: tuple[str, str]) -> Ended:
    """A user whose password is a token, and what ends the token soon."""
    token = new_token(server, eva, seconds=3600 if request.param == "revoked" else 7)

    def end() -> None:
        if request.param == "revoked":
            assert ask(server, "DELETE", f"{PATH}/1", eva).status_code == 204

    return (eva[0], token), end


def test_a_stream_ends_with_its_token(server: Server, ending: Ended) -> None:
    auth, end = ending
    with Raw(server) as client:
        client.ask("POST", "/brandon/models/HelloWorld?bulk=true", auth=auth, Transfer_Encoding="chunked")
        client.chunk(b'{"name":"jim"}\n')
        assert client.head().status == 200
        assert client.line()["result"]
        end()
        last = client.line()
        assert (last["code"], last["fatal"]) == ("key_revoked", True)
        client.rest()
        assert client.was_cut


def test_a_websocket_ends_with_its_token(server: Server, ending: Ended) -> None:
    auth, end = ending
    with RawSocket(server) as client:
        client.ask("GET", "/brandon/models/HelloWorld", auth=auth, **HANDSHAKE)
        assert client.head().status == 101
        client.frame(TEXT, b'{"name":"jim"}')
        assert client.receive_frame()[0] == TEXT
        end()
        opcode, payload = client.receive_frame()
        assert (opcode, int.from_bytes(payload[:2])) == (CLOSE, 1008)


def test_an_upload_ends_with_its_token_and_publishes_nothing(server: Server, ending: Ended) -> None:
    auth, end = ending
    graph = times(2)
    with Raw(server) as client:
        head = {"Content_Length": str(len(graph)), "Content_Type": OCTETS["Content-Type"]}
        client.ask("PUT", f"/{auth[0]}/models/late", auth=auth, **head)
        client.send(graph[:-10])
        until(lambda: list((server.data_dir / "models").glob(f"{auth[0]}/late/.incoming-*/*")))
        end()
        assert client.head().status == 401
    until(lambda: not (server.data_dir / "models" / auth[0]).exists())


# What it may not make


def test_a_token_makes_no_key_and_no_user(server: Server, eva: tuple[str, str]) -> None:
    token, of_admin = new_token(server, eva), new_token(server)
    for kind in ("full", "read_only"):
        assert ask_as(token, "POST", f"{server.url}/api/keys", json={"kind": kind}).status_code == 403
        assert ask_as(("admin", of_admin), "POST", f"{server.url}/api/keys", json={"kind": kind}).status_code == 403
        assert ask_as(of_admin, "POST", f"{server.url}/api/users/{eva[0]}/keys", json={"kind": kind}).status_code == 403
    assert ask_as(of_admin, "POST", f"{server.url}/api/users", json={"name": "made-by-token"}).status_code == 403
    assert 401 not in statuses(server, eva).values(), "the key is as it was"


def test_a_token_makes_no_token_that_ends_later(server: Server, eva: tuple[str, str]) -> None:
    token = new_token(server, eva, seconds=3600)
    ends_at = ask(server, "GET", PATH, eva).json()[0]["ExpiresAt"]
    after = (datetime.fromisoformat(ends_at) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    refused(make(server, token, name="later", expires_at=after), 422, "bad_expiry")
    made = make(server, token, name="as long", expires_at=ends_at)
    assert (made.status_code, made.json()["ExpiresAt"]) == (201, ends_at)
    child = made.json()["Token"]
    refused(make(server, child, name="later", expires_at=after), 422, "bad_expiry")


def test_a_read_only_key_opens_nothing_here(server: Server, eva: tuple[str, str]) -> None:
    key = read_only(server, eva)
    refused(make(server, key, name="ci", expires_at=later(60)), 403, "full_key_needed")
    for path in (PATH, "/team/teams", f"/team/teams/{eva[0]}", "/docs"):
        refused(ask(server, "GET", path, key), 403, "full_key_needed")


# What a request may say


def day(number: int) -> str:
    """The date of today, or so many days later."""
    return (datetime.now(UTC) + timedelta(days=number)).date().isoformat()


@pytest.mark.parametrize("days", [2, 365])
def test_a_date_is_its_first_second(server: Server, eva: tuple[str, str], days: int) -> None:
    date = day(days)
    made = make(server, eva, name="ci", expires_at=date)
    assert made.status_code == 201, made.text
    assert made.json()["ExpiresAt"] == f"{date}T00:00:00Z"


@pytest.mark.parametrize(
    ("time", "ends_at"),
    [("T18:00:00Z", "T18:00:00Z"), ("T18:00:00", "T18:00:00Z"), ("T18:00:00.999+02:00", "T16:00:00Z"), (" 18:00", "T18:00:00Z")],
)
def test_a_time_is_kept_in_utc_to_the_second(server: Server, eva: tuple[str, str], time: str, ends_at: str) -> None:
    date = day(2)
    made = make(server, eva, name="ci", expires_at=date + time)
    assert made.status_code == 201, made.text
    assert made.json()["ExpiresAt"] == date + ends_at


@pytest.mark.parametrize("days", [0, -1, 366])
def test_a_token_must_end_within_a_year(server: Server, eva: tuple[str, str], days: int) -> None:
    refused(make(server, eva, name="ci", expires_at=day(days)), 422, "bad_expiry")
    assert ask(server, "GET", PATH, eva).json() == []


@pytest.mark.parametrize(
    "expires_at",
    ["2018-01-07", "9999-12-31", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "tomorrow", "", "1e9", "\u0000", None],
)
def test_an_end_that_is_none_is_refused(server: Server, eva: tuple[str, str], expires_at: str | None) -> None:
    refused(make(server, eva, name="ci", expires_at=expires_at), 422, "bad_expiry")
    assert ask(server, "GET", PATH, eva).json() == []


def test_a_token_needs_its_end(server: Server, eva: tuple[str, str]) -> None:
    refused(make(server, eva, name="ci"), 422, "bad_expiry")


@pytest.mark.parametrize(
    ("body", "status", "code", "column"),
    [
        (b"", 400, "bad_json", None),
        (b"{", 400, "bad_json", None),
        (b'{"name": "\xff"}', 400, "bad_json", None),
        (b"[" * 100_000, 400, "bad_json", None),
        (b"[]", 422, "bad_field", None),
        (b"null", 422, "bad_field", None),
        (b'{"expires_at": "2030-12-31"}', 422, "bad_field", "name"),
        (b'{"name": "", "expires_at": "2030-12-31"}', 422, "bad_field", "name"),
        (b'{"name": 1, "expires_at": "2030-12-31"}', 422, "bad_field", "name"),
        (b'{"name": "ci", "expires_at": 1798675200}', 422, "bad_field", "expires_at"),
        (b'{"name": "ci", "expires_at": "2030-12-31", "scope": "all"}', 422, "unknown_field", "scope"),
        (b'{"name": "' + b"x" * 101 + b'", "expires_at": "2030-12-31"}', 422, "bad_field", "name"),
        (b" " * (1024 * 1024 + 1), 413, "body_too_large", None),
    ],
)
def test_a_body_that_makes_no_token_is_told_what_is_wrong(
    server: Server, eva: tuple[str, str], body: bytes, status: int, code: str, column: str | None
) -> None:
    error = refused(ask(server, "POST", PATH, eva, data=body), status, code)
    assert [one["Column"] for one in error["Details"][:1]] == ([column] if status == 422 else [])


def test_a_body_may_have_any_content_type(server: Server, eva: tuple[str, str]) -> None:
    body = f'{{"name": "ci", "expires_at": "{later(60)}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "nonsense"):
        assert ask(server, "POST", PATH, eva, data=body, headers={"Content-Type": kind}).status_code == 201


def test_all_faults_of_a_body_are_counted_and_the_first_ones_listed(server: Server, eva: tuple[str, str]) -> None:
    error = refused(make(server, eva, **{f"field{i}": 1 for i in range(150)}), 422, "bad_field")
    assert (len(error["Details"]), error["DetailsTotal"]) == (100, 151)


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1, max_size=100), expires_at=st.one_of(st.text(), st.datetimes().map(str), st.dates().map(str)))
def test_any_name_comes_back_as_it_was_and_any_end_is_allowed_or_refused(server: Server, name: str, expires_at: str) -> None:
    wild = make(server, None, name=name, expires_at=expires_at)
    assert wild.status_code in (201, 422)
    made = make(server, None, name=name, expires_at=later(60))
    assert (made.status_code, made.json()["Name"]) == (201, name)


# The pages


@pytest.mark.parametrize("path", ["/api/v1/api/docs", "/v1/docs", "/v1/api/docs", "/v1/docs/"])
def test_the_page_of_all_routes_needs_a_credential_here(server: Server, eva: tuple[str, str], path: str) -> None:
    answer = requests.get(server.url + path, timeout=30)
    refused(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer, Basic realm="sluice"'
    for auth in (eva, new_token(server, eva)):
        shown = ask_as(auth, "GET", server.url + path)
        assert (shown.status_code, shown.text) == (200, requests.get(server.url + "/docs", timeout=30).text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser: Debian's package chromium")
def test_a_browser_asks_for_a_password_and_opens_the_page(server: Server, eva: tuple[str, str]) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        password = {"username": eva[0], "password": new_token(server, eva)}
        with tab(browser, http_credentials=password) as opened:
            opened.page.goto(f"{server.url}/v1/docs")
            opened.page.locator(".opblock-summary-method").first.wait_for()
        browser.close()
