"""Answers whose payload has several JSON values, one behind the other. They are cut apart here, and never parsed."""

from engine.replicas.blocks import Answer


def values_of(answer: Answer) -> dict[str, str]:
    """The values by name, as the replica wrote them."""
    found: dict[str, str] = {}
    at = 0
    for name, size in answer.header["values"].items():
        found[name] = str(answer.payload[at : at + size], "utf-8")
        at += size
    return found
