"""Refusals of a query: what a replica says against a text or against its data, with the place in the text.

The server process knows the codes and their statuses (engine/query/codes.py). Knows no parser and no dataset.
"""

import difflib
from typing import Any

# An error quotes at most this much of what the caller wrote.
MAX_QUOTED_CHARACTERS = 80
NO_MEMORY = "The query needs more memory than a query may have."


class Refused(Exception):
    """The query cannot be answered, and the caller can do something about it.

    code  word of the contract, such as `unknown_column`
    at    offset in the text as sent, in characters from 0; None where no place is known
    hint  one sentence that says what would work, or None
    """

    def __init__(self, code: str, message: str, *, at: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.at = at
        self.hint = hint

    def report(self, text: str = "") -> dict[str, Any]:
        """What the header of an answer says of it: `code` and `message`, and `position` and `hint` if they are known."""
        report: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.at is not None:
            report["position"] = position_in(text, self.at)
        if self.hint is not None:
            report["hint"] = self.hint
        return report


def position_in(text: str, at: int) -> dict[str, int]:
    """An offset in a text as an error shows it: `offset` from 0, `line` and `column` from 1, all in characters."""
    before = text[:at]
    return {"offset": at, "line": before.count("\n") + 1, "column": at - before.rfind("\n")}


def quoted(text: str) -> str:
    """What the caller wrote, cut to the length that an error may quote."""
    return text if len(text) <= MAX_QUOTED_CHARACTERS else text[: MAX_QUOTED_CHARACTERS - 1] + "…"


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The hint `Did you mean "...?"`, if a known word is close to this one, whatever the case of the letters."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f'Did you mean "{by_lower[found[0]]}"?' if found else None
