"""How far a download has come: one line redrawn in place on a terminal, elsewhere a new line after every tenth."""

import sys
import time

from server.commands.progress import CLEAR_LINE, REDRAW_INTERVAL_S

MB = 1_000_000


class DownloadProgress:
    """Progress of a download of `num_bytes` bytes. It goes to stderr, because stdout is for results."""

    def __init__(self, what: str, num_bytes: int) -> None:
        self._what = what
        self._num_bytes = num_bytes
        self._is_terminal = sys.stderr.isatty()
        self._drawn_at = 0.0
        self._tenth = 0
        if self._is_terminal:
            self._draw(0, 0.0)
        else:
            self._write(f"{what}: {num_bytes / MB:,.1f} MB\n")

    def show(self, done_bytes: int) -> None:
        share = min(done_bytes / self._num_bytes, 1.0)
        if self._is_terminal:
            self._draw(done_bytes, share)
        elif int(share * 10) > self._tenth:
            self._tenth = int(share * 10)
            self._write(f"{self._what}: {self._tenth * 10} %\n")

    def _draw(self, done_bytes: int, share: float) -> None:
        now = time.monotonic()
        if now - self._drawn_at >= REDRAW_INTERVAL_S or share == 1:
            self._drawn_at = now
            self._write(f"{CLEAR_LINE}{self._what}: {done_bytes / MB:,.1f} of {self._num_bytes / MB:,.1f} MB, {share:.0%}")

    def end(self) -> None:
        """Finish the line, so that the next output begins on a line of its own."""
        if self._is_terminal:
            self._write("\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
