"""Refusals of an upload: what a replica says against rows, or against the options that came with them."""

from typing import Any

# A message repeats at most this much of what the sender wrote.
MAX_QUOTED_CHARACTERS = 80


class RefusedUpload(Exception):
    """The upload cannot be stored, and its sender can do something about it.

    code    `bad_row`, `invalid_parameter` or `type_mismatch`
    line    of the body, from 1; None where no line is at fault
    column  name, or None where the whole line is at fault
    """

    def __init__(self, code: str, message: str, *, line: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.line = line
        self.column = column

    def report(self) -> dict[str, Any]:
        """What the header of an answer says of it."""
        return {"code": self.code, "message": self.message, "line": self.line, "column": self.column}


def in_quotes(text: str) -> str:
    """What the sender wrote, in quotes, cut to the length that a message may repeat."""
    return f'"{text}"' if len(text) <= MAX_QUOTED_CHARACTERS else f'"{text[: MAX_QUOTED_CHARACTERS - 1]}…"'
