"""Configs that were sent: whatever JSON they are, each becomes a draft with its faults or one refusal, and never another error."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from engine.repository.config import ModelConfig, SentConfig
from engine.repository.drafts import Draft, parse_draft
from tests.publishing.uploads import config

WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["column", "matrix", "vector", "tensor", "period_days", "text", "colum", None])
ENTRY_KEYS = ["input", "field", "features", "missing", "pad", "coerce", "decode", "size", "scale", "mean", "origin", "max_tokens"]
NAMES = st.sampled_from(["x", "y", "image"])
ENTRIES = st.dictionaries(st.sampled_from(ENTRY_KEYS), NAMES | WILD, max_size=5)
INPUTS = st.builds(lambda entry, kind: entry | {"kind": kind}, ENTRIES, KINDS) | ENTRIES | WILD
OUTPUTS = st.dictionaries(st.sampled_from(["output", "as", "labels", "form", "axis"]), NAMES | WILD, max_size=4) | WILD
LISTS = st.fixed_dictionaries({}, optional={"inputs": st.lists(INPUTS, max_size=3), "outputs": st.lists(OUTPUTS, max_size=3)})
OTHER = st.dictionaries(st.sampled_from(sorted(SentConfig.model_fields)) | st.text(max_size=5), WILD, max_size=4)


def drafted(value: Any) -> Draft | None:
    """The draft of a config, None for one that cannot be kept, such as half of a surrogate pair."""
    try:
        return parse_draft(json.dumps(value).encode(), "eva", "m")
    except ValidationError:
        raise
    except ValueError:
        return None


@given(lists=LISTS, other=OTHER)
@example(lists={}, other={"\n": None})
@example(lists={}, other={"owner": "\n"})
def test_no_config_is_too_wild(lists: dict[str, Any], other: dict[str, Any]) -> None:
    draft = drafted(other | lists)
    if draft is not None:
        assert all(fault.startswith("config.json: ") and "\n" not in fault for fault in draft.faults)
        assert draft.faults or (draft.config.owner, draft.config.name) == ("eva", "m")


@given(lists=LISTS, other=OTHER)
def test_a_draft_without_faults_that_is_whole_is_a_config(lists: dict[str, Any], other: dict[str, Any]) -> None:
    whole = config() | other | lists | {"owner": "eva", "name": "m"}
    draft = drafted(whole)
    if draft is None:
        return
    written = {key: value for key, value in draft.config.as_written().items() if value is not None}
    has_kinds = all(entry.kind for entry in draft.config.inputs or [])
    if not draft.faults and has_kinds and {"inputs", "outputs", "example"} <= written.keys():
        assert ModelConfig.model_validate(json.loads(json.dumps({"task": "predict"} | written)))


@pytest.mark.parametrize("text", [b"[]", b"3", b'"x"', b"null"])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^config\.json: a JSON object is needed$"):
        parse_draft(text, "eva", "m")


def test_a_faulty_entry_is_left_out_and_its_neighbours_stay() -> None:
    entries = [{"input": "x"}, {"input": 3}, {"kind": "column", "input": "z"}]
    draft = parse_draft(json.dumps({"inputs": entries, "max_batch_size": "8"}).encode(), "eva", "m")
    assert [entry.input for entry in draft.config.inputs or []] == ["x", "z"]
    assert draft.config.max_batch_size == 1024
    assert [fault.split(":")[1] for fault in draft.faults] == [" field 'max_batch_size'", " field 'inputs.1.open.input'"]
