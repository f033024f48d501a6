"""Debian's chromium, driven without a window, and what it has asked and said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = 30_000


class Tab:
    """A tab, with the addresses that it asked and what came to its console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.said: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def state(self, text: str) -> None:
        """Wait until the page says so."""
        self.page.locator("#state", has_text=text).wait_for()

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.locator(selector).all_inner_texts()
        return found

    def foreign(self, url: str) -> list[str]:
        """What it asked of other hosts than the server at this address."""
        return [one for one in self.asked if not one.startswith((url + "/", "blob:" + url))]


@contextmanager
def tab(browser: Any, **options: Any) -> Iterator[Tab]:
    """A tab that shares nothing with others. Its page must have said nothing by the end."""
    context = browser.new_context(**options)
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
