"""Queries that differ from an earlier one in their numbers alone: they are planned as that one, and answered as themselves."""

from collections.abc import Iterator

import numpy as np
import pytest
import requests

from tests.query.asking import Auth, answered, ask, assert_refused, column, put, rows
from tests.serving import Server, serving

# Reads the dataset a when its bracket holds 0. When it holds `--`, the rest of its first line is a comment, and it reads b.
TWO_MEANINGS = """select l[{}] as y, '
0] as y from "hub://{}" --' as z from "hub://{}\""""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("kept") / "data") as running:
        yield running


def user(server: Server, name: str) -> Auth:
    made = requests.post(f"{server.url}/api/users", json={"name": name}, auth=server.auth, timeout=30)
    return (name, made.json()["key"])


def put_lists(server: Server, name: str, value: int, auth: Auth) -> None:
    put(server, name, [{"n": value, "l": [value]}], auth=auth)


def test_another_vector_has_its_own_answer(server: Server) -> None:
    stored = np.eye(8, dtype=np.float32)
    put(server, "admin/eye", ({"n": i, "v": row} for i, row in enumerate(stored.tolist())), types="v:vector(8)")
    text = 'select n, cosine_similarity(v, {}) as s from "hub://admin/eye" order by s desc limit 1'
    for i in [*range(8), 3]:
        literal = f"ARRAY[{','.join(map(str, stored[i].tolist()))}]"
        assert column(server, text.format(literal)) == [i, 1.0]
        assert column(server, text.format("?"), params=[stored[i].tolist()]) == [i, 1.0]


def test_a_dataset_that_was_replaced_is_read_in_its_new_version(server: Server) -> None:
    for value in (1, 2, 3):
        put_lists(server, "admin/changing", value, server.auth)
        answer = ask(server, f'select n, ARRAY[{value}] as v from "hub://admin/changing"')
        assert answer.headers["X-Dataset-Versions"] == f"admin/changing@{value}"
        assert answer.json()["data"] == [{"n": value, "v": [value]}]


def test_rights_are_looked_up_for_each_query(server: Server) -> None:
    ann, bob = user(server, "ann"), user(server, "bob")
    put_lists(server, "ann/own", 7, ann)
    text = 'select n, ARRAY[{}] as v from "hub://ann/own"'
    for number in (1, 22):
        assert rows(server, text.format(number), auth=ann)[0]["n"] == 7
    for visibility, status in (("public", 200), ("private", 404)):
        change = {"visibility": visibility}
        requests.patch(f"{server.url}/api/datasets/ann/own", json=change, auth=ann, timeout=30).raise_for_status()
        assert ask(server, text.format(333), auth=bob).status_code == status
    refused = assert_refused(ask(server, text.format(333), auth=bob), 404, "dataset_not_found")
    assert refused["position"]["offset"] == text.format(333).index('"hub'), "the place is that in this text"
    requests.delete(f"{server.url}/api/datasets/ann/own", auth=ann, timeout=30).raise_for_status()
    assert_refused(ask(server, text.format(4), auth=ann), 404, "dataset_not_found")


def test_a_text_that_only_looks_alike_reads_what_it_names(server: Server) -> None:
    """The plan that is kept names the other dataset, whichever of the two texts came before."""
    cyd, dan = user(server, "cyd"), user(server, "dan")
    put_lists(server, "cyd/a", 1, cyd)
    put_lists(server, "dan/b", 2, dan)
    first, second = (TWO_MEANINGS.format(inside, "dan/b", "cyd/a") for inside in ("0", "--"))
    for _ in range(2):
        assert rows(server, first)[0]["y"] == 1
        assert rows(server, first, auth=cyd)[0]["y"] == 1
        assert rows(server, second) == [{"y": 2}]
        assert rows(server, second, auth=dan) == [{"y": 2}]
        assert_refused(ask(server, first, auth=dan), 404, "dataset_not_found")
        assert_refused(ask(server, second, auth=cyd), 404, "dataset_not_found")


def test_what_is_wrong_with_a_text_is_said_of_this_text(server: Server) -> None:
    put_lists(server, "admin/wrong", 1, server.auth)
    text = 'select n, dot(ARRAY[{}], ARRAY[1, 2]) as s from "hub://admin/wrong"'
    assert answered(server, text.format("3, 4"))["data"] == [{"n": 1, "s": 11.0}]
    refused = assert_refused(ask(server, text.format("3, 4, 5")), 400, "dimension_mismatch")
    assert refused["position"]["offset"] < len(text)
    assert_refused(ask(server, text.format("")), 400)
    assert_refused(ask(server, text.format("3, 4"), accept="text/html"), 406)
    assert_refused(ask(server, text.format("1e999, 4"), accept="text/html"), 400, "bad_vector")
    assert answered(server, text.format("5, 6"))["data"] == [{"n": 1, "s": 17.0}]
