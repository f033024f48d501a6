"""Who may publish, share and delete which model, under which names; and that a refusal comes before the upload is read."""

import pytest
import requests

from tests.clients import Raw
from tests.publishing.asking import OCTETS, delete, patch, predict, put, read_only, refused
from tests.publishing.uploads import config, times
from tests.serving import Server


def test_who_may_publish(house: Server, eva: tuple[str, str], tom: tuple[str, str]) -> None:
    """Acceptance 20, for changes of models."""
    graph, may = times(2), read_only(house, eva)
    anonymous = requests.put(house.model("eva/mine"), data=graph, headers=OCTETS, timeout=30)
    assert refused(anonymous, 401).startswith("No basic authentication provided: ")
    assert refused(put(house, "eva/mine", graph, auth=("eva", "0" * 32)), 401).startswith("Unauthorized: ")
    assert refused(put(house, "eva/mine", graph, auth=may), 403) == "a full key is needed for this"
    assert refused(put(house, "eva/mine", graph, auth=tom), 404) == "model not found"
    assert put(house, "eva/mine", graph, auth=eva).status_code == 201
    assert refused(put(house, "eva/mine", graph, auth=tom), 404) == "model not found"
    for change in (patch(house, "eva/mine", tom, shared=True), delete(house, "eva/mine", auth=tom)):
        assert refused(change, 404) == "model not found"
    assert patch(house, "eva/mine", eva, shared=True).json()["shared"] is True
    for change in (
        put(house, "eva/mine", graph, auth=tom),
        patch(house, "eva/mine", tom, shared=False),
        delete(house, "eva/mine", auth=tom),
    ):
        assert change.status_code == 403
    for change in (patch(house, "eva/mine", may, shared=False), delete(house, "eva/mine", auth=may)):
        assert refused(change, 403) == "a full key is needed for this"
    assert predict(house, "eva/mine", auth=tom, x=1)["result"] == {"y": 2}
    assert put(house, "eva/mine", times(3)).status_code == 201, "the admin acts for everybody"
    assert patch(house, "eva/mine", eva, shared=False).json()["shared"] is False
    assert predict(house, "eva/mine", auth=tom, x=1) == {"error": "model not found"}
    assert delete(house, "eva/mine", auth=eva).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("eva/-x", 422), ("v2/models", 404), ("Datasets/x", 404), ("a b/x", 422), ("eva/" + "x" * 101, 422)]
)
def test_names_that_cannot_be(house: Server, path: str, status: int) -> None:
    assert put(house, path, times(1)).status_code == status


def test_a_refusal_comes_in_place_of_100_continue(house: Server, tom: tuple[str, str]) -> None:
    put(house, "admin/expected", times(2), config=config(shared=True))
    for auth, headers, status in (
        (None, OCTETS, 401),
        (("tom", "wrong"), OCTETS, 401),
        (tom, OCTETS, 403),
        (True, {"Content-Type": "text/plain"}, 415),
    ):
        with Raw(house) as client:
            named = {name.replace("-", "_"): text for name, text in headers.items()}
            client.ask("PUT", "/admin/models/expected", auth=auth, Expect="100-continue", Content_Length="10", **named)  # type: ignore[arg-type]
            assert client.head().status == status
    with Raw(house) as client:
        graph = times(9)
        client.ask(
            "PUT",
            "/admin/models/expected",
            Expect="100-continue",
            Content_Length=str(len(graph)),
            Content_Type=OCTETS["Content-Type"],
        )
        assert client.head().status == 100
        client.send(graph)
        assert client.head().status == 201
