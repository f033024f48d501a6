"""Replies of this family: JSON values one behind the other in the payload, and beside them what the server itself looks at."""

from collections.abc import Mapping
from typing import Any

from engine.tasks import codec
from engine.tasks.families import Reply


def reply(values: Mapping[str, Any] | None = None, **told: Any) -> Reply:
    """A reply whose payload has these values as JSON; `values` in its header says how many bytes each has.

    told  further keys of the header
    """
    bodies = {name: codec.dumps(value) for name, value in (values or {}).items()}
    sizes = {name: len(body) for name, body in bodies.items()}
    return {"parts": [{"size": sum(sizes.values()), "values": sizes, **told}]}, list(bodies.values())


def as_it_is(body: bytes) -> Reply:
    """A reply whose payload is no JSON, or JSON that is there already."""
    return {"parts": [{"size": len(body)}]}, [body]
