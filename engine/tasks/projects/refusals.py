"""Refusals: why a task of this family does not do what it was asked for, in words for the person who can change the request."""

from typing import Any

# A refusal has at most this many details, and beside them their full number.
MAX_DETAILS = 100


class Refusal(Exception):
    """The request cannot be done. The code is one that the docstring of the family lists.

    total  how many details there are, if only some of them were kept
    """

    def __init__(self, code: str, message: str, details: list[dict[str, Any]] | None = None, total: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or []
        self.total = len(self.details) if total is None else total

    def report(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "details": self.details[:MAX_DETAILS],
            "details_total": self.total,
        }


def warning(code: str, message: str, node: str | None = None) -> dict[str, Any]:
    """One entry of `Warnings`."""
    return {"Code": code, "Message": message} | ({} if node is None else {"Node": node})
