"""Progress of a long command: on a terminal one line, redrawn in place; elsewhere nothing, or a line from time to time."""

import os
import sys
import time

REDRAW_INTERVAL_S = 0.2
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """How far a stream has come.

    num_bytes     size of what is sent; None when it is unknown, and then neither a percentage nor the time left is shown
    plain_line_s  seconds between two lines when stderr is not a terminal; None writes none there
    noun          what is counted
    """

    def __init__(self, num_bytes: int | None, *, is_shown: bool, plain_line_s: float | None = None, noun: str = "records") -> None:
        self._num_bytes = num_bytes
        self._is_terminal = sys.stderr.isatty()
        interval_s = REDRAW_INTERVAL_S if self._is_terminal else plain_line_s
        self._interval_s = interval_s if is_shown else None
        self._noun = noun
        self._started = time.monotonic()
        self._drawn_at = 0.0 if self._is_terminal else self._started
        self._is_line_open = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def show(self, *, records: int, sent_bytes: int, errors: int | None = None) -> None:
        """Draw the line, unless that was done just now. `errors` is None while nobody knows of them."""
        now = time.monotonic()
        if self._interval_s is None or now - self._drawn_at < self._interval_s:
            return
        self._drawn_at = now
        text = self._text(records, errors, sent_bytes)
        if self._is_terminal:
            self._is_line_open = True
            self._write(CLEAR_LINE + text[: _width()])
        else:
            self._write(text + "\n")

    def end(self, text: str) -> None:
        """Replace the line by this text. The text is written even when stderr is not a terminal."""
        self._write((CLEAR_LINE if self._is_line_open else "") + text + "\n")
        self._is_line_open = False

    def close(self) -> None:
        """Remove the line."""
        if self._is_line_open:
            self._write(CLEAR_LINE)
            self._is_line_open = False

    def _text(self, records: int, errors: int | None, sent_bytes: int) -> str:
        seconds = max(self.seconds, 0.001)
        parts = [f"{records:,} {self._noun}", f"{records / seconds:,.0f}/s"]
        if errors is not None:
            parts.append(f"{errors:,} errors")
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
