"""Debian's chromium, driven without a window, and what it has asked and said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = 30_000

# The elements with text of their own whose contrast (WCAG 2) is below 4.5.
CONTRAST = """() => {
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = color => {
    const [red, green, blue] = color.match(/[\\d.]+/g).map(part => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (!color.endsWith(", 0)")) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = node => {
    const [less, more] = [light(getComputedStyle(node).color), light(behind(node))].sort((one, other) => one - other);
    return (more + 0.05) / (less + 0.05);
  };
  return [...document.querySelectorAll("body *")]
    .filter(node => node.checkVisibility() && [...node.childNodes].some(one => one.nodeType === Node.TEXT_NODE))
    .filter(node => contrast(node) < 4.5)
    .map(node => node.outerHTML.slice(0, 80));
}"""


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, until the end of the context. The test is skipped where it is missing, or playwright."""
    if CHROMIUM is None:
        pytest.skip("needs a browser: Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: the extra `pages` of setup.cfg")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


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
