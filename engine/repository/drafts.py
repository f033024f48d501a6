"""Drafts: what a config.json that was sent for publishing says, and what is wrong with it.

A draft may leave out whatever can be derived from the graph. Its faults are collected, not raised, so that the sender hears of them
together with those that only the graph shows. Knows nothing of graphs.
"""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.repository.config import MAX_DESCRIPTION_CHARACTERS, SentConfig, all_faults, on_one_line, read_json

# The keys with a list of entries, of which a faulty one is left out of a draft alone.
LISTS = ("inputs", "outputs")


@dataclass(frozen=True, slots=True)
class Draft:
    """A config.json as it was sent.

    config  without the parts that are faulty
    faults  a sentence for each of these
    """

    config: SentConfig
    faults: list[str]


def parse_draft(text: bytes, owner: str, name: str) -> Draft:
    """The draft of a model with this owner and name. ValueError for a text that is no JSON object, or cannot be kept."""
    raw = read_json(text)
    if not isinstance(raw, dict):
        raise ValueError("config.json: a JSON object is needed")
    title = {"owner": owner, "name": name}
    try:
        config = SentConfig.model_validate(title | raw)
        faults = config.gaps()
    except ValidationError as error:
        config = SentConfig.model_validate(_without_faulty(title | raw, error) | title)
        faults = all_faults(error)
    faults += config.clashes() + _misnamed(title | raw, title)
    if len(config.description) > MAX_DESCRIPTION_CHARACTERS:
        faults.append(f"field 'description': it has more than {MAX_DESCRIPTION_CHARACTERS:,} characters")
    return Draft(config, [f"config.json: {fault}" for fault in faults])


def _misnamed(raw: dict[str, Any], title: dict[str, str]) -> list[str]:
    """A config that was sent to the path of another model."""
    given, wanted = (f"{names['owner']}/{names['name']}" for names in (raw, title))
    return [] if given == wanted else [f"it names {on_one_line(given[:200])}, but the path names {wanted}"]


def _without_faulty(raw: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """The same keys without those that are faulty; of a list of entries only the faulty entries go."""
    kept = dict(raw)
    entries: dict[str, set[int]] = {key: set() for key in LISTS}
    for fault in error.errors(include_url=False):
        key, *place = fault["loc"]
        if key in entries and place and isinstance(place[0], int):
            entries[str(key)].add(place[0])
        else:
            kept.pop(str(key), None)
    for key, faulty in entries.items():
        if faulty and key in kept:
            usable = [entry for i, entry in enumerate(kept.pop(key)) if i not in faulty]
            kept |= {key: usable} if usable else {}
    return kept
