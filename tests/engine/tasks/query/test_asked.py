"""What a body needs before its query can run: sources, texts and the columns they are compared with, each with its place."""

import json
from typing import Any

import pytest

from engine.tasks.query.plan import plan
from engine.tasks.query.tql import Trees

LIMITS = {"max_timeout_ms": 60_000, "text_bytes": 10_000}


def planned(query: str, workspace: str | None = None, **fields: Any) -> dict[str, Any]:
    """What the block `plan` says of a body."""
    body = json.dumps({"query": query, **fields}).encode()
    header, buffers = plan({**LIMITS, "workspace": workspace}, memoryview(body), Trees())
    [part] = header["parts"]
    assert (part["size"], buffers) == (0, [])
    assert part["seconds"]["parse"] > 0
    found: dict[str, Any] = part
    return found


def sources(query: str, workspace: str | None = None, **fields: Any) -> list[tuple[str, str, int | None]]:
    found = planned(query, workspace, **fields)["sources"]
    return [(one["name"], one["source"], one["position"] and one["position"]["offset"]) for one in found]


def test_the_sources_of_a_text_stand_with_their_places() -> None:
    text = 'select a.n from "hub://ann/a" a join "bob/b/train@3" b on a.n = b.n where a.n in (select n from "ann/a")'
    assert sources(text) == [("ann/a", "ann/a", text.index('"hub')), ("bob/b/train@3", "bob/b/train@3", text.index('"bob'))]


def test_places_are_those_in_the_text_as_it_was_sent() -> None:
    text = f'select l2_norm(v, ARRAY[{",".join(["0.25"] * 100)}]) as d\nfrom "ann/a"'
    assert planned(text)["sources"][0]["position"] == {"offset": text.index('"ann'), "line": 2, "column": 6}


def test_a_text_without_a_source_has_that_of_the_request() -> None:
    assert sources("select n", dataset="hub://ann/a") == [("", "ann/a", None)]
    assert sources('select n from "bob/b"', dataset="ann/a") == [("bob/b", "bob/b", 14)], "it is not read"
    assert planned("select n")["refused"]["code"] == "syntax_error"


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ("facts", "ann/facts"),
        ("facts@2", "ann/facts@2"),
        ("facts/train", "ann/facts/train"),
        ("hub://bob/facts", "bob/facts"),
    ],
)
def test_in_a_workspace_a_name_without_an_org_has_that_of_the_workspace(written: str, source: str) -> None:
    assert [found for _, found, _ in sources(f'select n from "{written}"', "ann")] == [source]


def test_a_text_to_embed_stands_once_with_the_column_it_is_compared_with() -> None:
    text = (
        "select cosine_similarity(a.v, embed('bees')) as s, l2_norm(w - embed(:q, 'small')) as d "
        "from \"ann/a\" a order by dot(embed('bees'), v)"
    )
    first, second = planned(text, params={"q": "honey"})["texts"]
    assert (first["text"], first["model"], first["column"]) == ("bees", None, "v")
    assert (second["text"], second["model"], second["column"]) == ("honey", "small", "w")
    assert first["position"]["offset"] == text.index("embed")


def test_the_limits_of_the_server_hold() -> None:
    assert planned("select n", dataset="a/b", timeout_ms=60_001)["refused"]["code"] == "invalid_parameter"
    assert planned("select n, '" + "ä" * 5000 + "' as x", dataset="a/b")["refused"]["code"] == "body_too_large"


def test_a_refusal_has_the_place_of_a_parameter_in_the_text_as_sent() -> None:
    text = "select l2_norm(v, ARRAY[1, 2, 3]) as d where n = :missing"
    refused = planned(text, dataset="a/b", params={})["refused"]
    assert (refused["code"], refused["position"]["offset"]) == ("bad_param", text.index(":missing"))


def test_the_log_may_know_a_hash_that_is_the_same_for_another_vector() -> None:
    one, other = planned("select n", dataset="a/b"), planned("select m", dataset="a/b")
    assert one["hash"] != other["hash"]
    assert len(one["hash"]) == 16
    first, second = (planned(f"select dot(v, ARRAY[{number}]) as s", dataset="a/b") for number in (1, 2.5))
    assert first["hash"] == second["hash"]
