"""Progress of a long command on a terminal: one line, redrawn in place. Nothing is drawn when stderr is not a terminal."""

import os
import sys
import time

REDRAW_INTERVAL_S = 0.2
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """How far a stream has come.

    num_bytes  size of what is sent; None when it is unknown, and then neither a percentage nor the time left is shown
    """

    def __init__(self, num_bytes: int | None, *, is_shown: bool) -> None:
        self._num_bytes = num_bytes
        self._is_shown = is_shown and sys.stderr.isatty()
        self._started = time.monotonic()
        self._drawn_at = 0.0
        self._is_line_open = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, *, records: int, errors: int, sent_bytes: int) -> None:
        """Draw the line, unless it was drawn less than REDRAW_INTERVAL_S ago."""
        now = time.monotonic()
        if self._is_shown and now - self._drawn_at >= REDRAW_INTERVAL_S:
            self._drawn_at = now
            self._is_line_open = True
            self._write(CLEAR_LINE + self._text(records, errors, sent_bytes)[: _width()])

    def end(self, text: str) -> None:
        """Replace the line by this text. The text is written even when stderr is not a terminal."""
        self._write((CLEAR_LINE if self._is_line_open else "") + text + "\n")
        self._is_line_open = False

    def _text(self, records: int, errors: int, sent_bytes: int) -> str:
        seconds = max(self.seconds, 0.001)
        parts = [f"{records:,} records", f"{records / seconds:,.0f}/s", f"{errors:,} errors"]
        if self._num_bytes:
            share = min(sent_bytes / self._num_bytes, 1.0)
            parts.insert(1, f"{share:.0%}")
            if share > 0:
                parts.append(f"ETA {clock(seconds * (1 - share) / share)}")
        return "  ".join(parts)

    @staticmethod
    def _write(text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:  # the terminal is gone, but the results may still be written
            pass


def clock(seconds: float) -> str:
    """Hours, minutes, seconds: `0:04:09`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1
    except OSError:
        return 79
