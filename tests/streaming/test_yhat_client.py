"""The original client of ScienceOps (yhat 1.10.0 on PyPI), unchanged, against this server (acceptance 22).

The client is from 2016 and pins libraries of that year, so it is installed without them: `make` can do this, setup.cfg cannot.
"""

import json
import sys
import types
import warnings
from typing import Any

import pytest
import requests

from tests.serving import Server, serving

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def yhat() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that pandas is missing, which it does not need, and of things that are outdated
        return pytest.importorskip("yhat", reason="the yhat client is not installed: make lint installs it", exc_type=ImportError)


@pytest.fixture
def pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pandas importable: only then does the client turn a dict into JSON. Else it sends a form, to any server."""
    module = types.ModuleType("pandas")
    module.DataFrame = type("DataFrame", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", module)


@pytest.fixture
def no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pandas impossible to import: with it the client encodes a text once more, to any server."""
    monkeypatch.setitem(sys.modules, "pandas", None)


def test_it_constructs_with_the_right_key_and_refuses_a_wrong_one(
    server: Server, yhat: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for url in (server.url, server.url + "/"):
        assert yhat.Yhat("admin", server.key, url).username == "admin"
    for user, key in (("admin", "wrong"), ("nobody", server.key), ("", "")):
        with pytest.raises(Exception, match="Failed to authenticate: 401"):
            yhat.Yhat(user, key, server.url)
    assert "APIKEY did not match" in capsys.readouterr().err


@pytest.mark.usefixtures("pandas")
@pytest.mark.parametrize("raw_input", [False, True])
def test_it_predicts_from_a_dict(server: Server, yhat: Any, raw_input: bool) -> None:
    client = yhat.Yhat("admin", server.key, server.url)
    answer = client.predict("HelloWorld", {"name": "Kermit"}, model_owner="brandon", raw_input=raw_input)
    assert list(answer) == ["result", "version", "yhat_id", "yhat_model"]
    assert answer["result"] == {"greeting": "Hello Kermit"}
    assert client.predict("iris", FLOWER, model_owner="sluice")["result"]["label"] == "setosa"


@pytest.mark.usefixtures("no_pandas")
def test_it_predicts_from_json_text(server: Server, yhat: Any) -> None:
    client = yhat.Yhat("admin", server.key, server.url)
    answer = client.predict("HelloWorld", json.dumps({"name": "Gonzo", "yhat_id": "x"}), model_owner="brandon")
    assert (answer["result"], answer["yhat_id"]) == ({"greeting": "Hello Gonzo"}, "x")


@pytest.mark.usefixtures("pandas")
@pytest.mark.parametrize(
    ("model", "owner", "record", "status", "text"),
    [
        ("HelloWorld", "brandon", {}, 422, "field 'name' is missing"),
        ("HelloWorld", "brandon", [1, 2], 400, "send one object; for many use ?bulk=true"),
        ("nothing", "brandon", {}, 404, "model not found"),
        ("HelloWorld", None, {}, 404, "model not found"),
    ],
)
def test_what_it_cannot_have_raises_with_our_text_on_stderr(
    server: Server,
    yhat: Any,
    capsys: pytest.CaptureFixture[str],
    model: str,
    owner: str | None,
    record: Any,
    status: int,
    text: str,
) -> None:
    client = yhat.Yhat("admin", server.key, server.url)
    with pytest.raises(requests.HTTPError, match=f"^{status} "):
        client.predict(model, record, model_owner=owner)
    assert text in capsys.readouterr().err


@pytest.mark.usefixtures("pandas")
def test_its_user_predicts_with_shared_models(server: Server, yhat: Any) -> None:
    made = requests.post(f"{server.url}/api/users", auth=server.auth, json={"name": "camilla"}, timeout=10)
    client = yhat.Yhat("camilla", made.json()["key"], server.url)
    assert client.predict("HelloWorld", {"name": "x"}, model_owner="brandon")["result"] == {"greeting": "Hello x"}


@pytest.mark.usefixtures("no_pandas")
def test_its_key_is_in_every_query_and_in_no_log(tmp_path: Any, yhat: Any) -> None:
    """Acceptance 31: the client sends user and key as query parameters too."""
    with serving(tmp_path / "data", SLUICE_LOG_LEVEL="DEBUG", SLUICE_SCORE_REPLICAS="1") as server:
        client = yhat.Yhat("admin", server.key, server.url)
        client.predict("HelloWorld", '{"name": "x"}', model_owner="brandon")
        with pytest.raises(requests.HTTPError):
            client.predict("nothing", '{"name": "x"}', model_owner="brandon")
        server.stop()
        assert server.key not in server.log
        assert "apikey" not in server.log
