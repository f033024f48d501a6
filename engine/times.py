"""Points in time as the database and answers write them: UTC, whole seconds, `2026-01-31T09:00:00Z`. As texts they sort by time."""

from datetime import UTC, datetime


def as_text(seconds: float) -> str:
    """The second, since 1970, in which this moment lies."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_seconds(text: str) -> float:
    """Seconds since 1970 of a time that `as_text` has written."""
    return datetime.fromisoformat(text).timestamp()
