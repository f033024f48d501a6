"""Which bodies a kept plan is tried for, and which plans are kept."""

import json
import time
from typing import Any

from engine.query.kept_plans import MAX_BODY_BYTES, MAX_KEPT, KeptPlans, key_of

PLAN: dict[str, Any] = {"sources": [], "texts": []}


def key(query: str, **fields: Any) -> Any:
    return key_of(json.dumps({"query": query, **fields}).encode(), None)


def test_bodies_are_like_each_other_when_only_the_numbers_of_their_lists_differ() -> None:
    first = key("select dot(v, ARRAY[1.5, -2e-7]) as s", params=[3])
    assert first == key("select dot(v, ARRAY[0.25,+1,.5]) as s", params=[4, 5])
    assert first != key("select dot(w, ARRAY[1.5, -2e-7]) as s", params=[3])
    assert key("?", params=[{"b64": "AAAAAA==", "dtype": "f32"}]) == key("?", params=[{"b64": "AACAPw==", "dtype": "f32"}])


def test_what_is_not_a_list_of_numbers_makes_a_difference() -> None:
    assert key("select n limit 5") != key("select n limit 6")
    assert key("select n", timeout_ms=50) != key("select n", timeout_ms=60_000)
    assert key("select embed('[a]')") != key("select embed('[b]')")
    assert key("?", params=["1"]) != key("?", params=["2"])
    assert key_of(b"{}", None) != key_of(b"{}", "ann"), "a name means something else in a workspace"


def test_plans_with_texts_to_embed_are_not_kept() -> None:
    kept = KeptPlans()
    kept.keep(("", b"a"), PLAN)
    assert kept.find(("", b"a")) == PLAN
    kept.keep(("", b"a"), {**PLAN, "texts": [{"text": "bees"}]})
    assert kept.find(("", b"a")) is None, "and the one before was wrong"


def test_the_plans_that_were_used_last_are_kept() -> None:
    kept = KeptPlans()
    for i in range(MAX_KEPT):
        kept.keep(("", b"%d" % i), PLAN)
    assert kept.find(("", b"0")) == PLAN
    kept.keep(("", b"new"), PLAN)
    assert kept.find(("", b"0")) == PLAN
    assert kept.find(("", b"1")) is None


def test_bodies_that_are_long_are_planned_each_time() -> None:
    assert key_of(b"[%b]" % (b"1," * MAX_BODY_BYTES), None) is None
    assert key_of(b"a" * 5000, None) is None
    kept = KeptPlans()
    kept.keep(None, PLAN)
    assert kept.find(None) is None


def test_no_body_takes_long_to_look_at() -> None:
    """The loop waits for this. A pattern that tries again from each bracket would take minutes."""
    for part in (b"[", b"[1", b"[1,", b'"b64":"', b'"b64" : "A', b"[]"):
        body = (part * MAX_BODY_BYTES)[:MAX_BODY_BYTES]
        began = time.thread_time()
        key_of(body, None)
        assert time.thread_time() - began < 0.5
