"""From the text of a setting to its value: one function for each kind of value.

Each raises ValueError with what would work, as the rest of a sentence that begins with the name of the setting.
"""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.queues import QUEUES

SURFACES = frozenset({"embeddings", "preview", "streaming", "metrics"})
# The word for a setting without a value.
UNSET = "unset"


def count(text: str, least: int = 0) -> int:
    number = whole(text)
    if number < least:
        raise ValueError(f"must be at least {least}")
    return number


def positive(text: str) -> int:
    return count(text, 1)


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The same, for a setting that may have no value: its parts of the program then decide."""
    return lambda text: None if text.lower() == UNSET else parse(text)


def queue(text: str) -> str:
    if text.lower() not in QUEUES:
        raise ValueError(f"must be {' or '.join(QUEUES)}")
    return text.lower()


def roots(text: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in text.split(os.pathsep) if part) if text.lower() != "none" else ()


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text.lower()

    return parse


def status(text: str) -> int:
    if text not in ("400", "404"):
        raise ValueError("must be 404 or 400")
    return int(text)


def url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s\"'<>?#\\]+(/[^\s\"'<>?#\\]*)?", text):
        raise ValueError("must be an address such as https://sluice.example.org")
    return text


def port(text: str) -> int:
    if text.startswith("tcp://"):
        raise ValueError(
            "must be a number; Kubernetes sets it for a Service named sluice, unless you set enableServiceLinks: false"
        )
    number = count(text)
    if number > 65535:
        raise ValueError("must be at most 65535")
    return number


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("must be a number of seconds") from None
    if not 0 <= number < math.inf:
        raise ValueError("must be 0 seconds or more")
    return number


def positive_seconds(text: str) -> float:
    number = seconds(text)
    if number == 0:
        raise ValueError("must be more than 0 seconds")
    return number


def flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("must be true or false")
    return words[text.lower()]


def level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("must be DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return text.upper()


def surfaces(text: str) -> frozenset[str]:
    found = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    if found == {"none"}:
        return frozenset()
    if not found or not found <= SURFACES:
        raise ValueError(f"must be none, or some of {', '.join(sorted(SURFACES))}, separated by commas")
    return found


def names(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("must be names, separated by commas")
    return () if found == ("none",) else found


def hosts(text: str) -> frozenset[str]:
    found = frozenset(name.lower().rstrip(".") for name in names(text))
    if any(char in name for name in found for char in ":/*"):
        raise ValueError("must be names of hosts without scheme and port, separated by commas")
    return found


def origins(text: str) -> frozenset[str]:
    found = frozenset(origin.lower() for origin in names(text))
    if not all(origin == "*" or re.fullmatch(r"https?://[^/\s*]+", origin) for origin in found):
        raise ValueError("must be origins such as https://app.example.org, separated by commas, or *")
    return found


def aliases(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in names(text)]
    if not all(alias.strip() and name.strip() for alias, _, name in pairs):
        raise ValueError("must be pairs alias=name, separated by commas")
    return {alias.strip(): name.strip() for alias, _, name in pairs}


def providers(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or not all(re.fullmatch(r"[A-Za-z]{1,60}", name) for name in found):
        raise ValueError("must be names such as cuda,cpu, separated by commas")
    return found
