"""A person at a terminal sees one line that is redrawn; a log gets a new line after every tenth."""

import io

import pytest

from progress import CLEAR_LINE, DownloadProgress


class TerminalText(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    progress = DownloadProgress("fetching small", 84_000_000)
    for megabytes in (1, 20, 21, 84):
        progress.show(megabytes * 1_000_000)
    progress.end()
    return stream.getvalue()


def test_a_log_gets_a_line_after_every_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["fetching small: 84.0 MB", "fetching small: 20 %", "fetching small: 100 %"]
    assert shown(monkeypatch, io.StringIO()).splitlines() == lines


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, TerminalText())
    drawn = text.removesuffix("\n").split(CLEAR_LINE)[1:]
    assert drawn[0] == "fetching small: 0.0 of 84.0 MB, 0%"
    assert drawn[-1] == "fetching small: 84.0 of 84.0 MB, 100%"
    assert "\n" not in text.removesuffix("\n")
