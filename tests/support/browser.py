"""A headless Chromium under Playwright, where one is installed; in CI there must be one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.deadlines import DEADLINE_S
from tests.support.programs import require_tool

WIDE, PHONE = (1440, 900), (390, 844)
"""Sizes of a window, in pixels."""


@dataclass
class Reader:
    """One window of a browser.

    Attributes:
        faults: what went wrong in it: errors on its console, refused requests, and requests to elsewhere.
    """

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open an address of the service, and return when its view is there."""
        self.page.goto(f"{self.origin}{path}")
        self.wait()

    def wait(self) -> None:
        """Return when a view of the dashboard is there."""
        self.page.wait_for_selector("body[data-ready]")

    def text(self, selector: str) -> str:
        """The text of the first element that a selector finds."""
        return str(self.page.locator(selector).first.inner_text())

    def cells(self, region: str) -> list[list[str]]:
        """The texts of a table's rows, by the name of the table."""
        rows = self.page.locator(f'[role="region"][aria-label="{region}"] tbody tr')
        return [[str(text) for text in row.locator("th, td").all_inner_texts()] for row in rows.all()]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(
            self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") or 0
        )


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser."""
    path = require_tool("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def reading(browser: Browser, port: int, size: tuple[int, int] = WIDE) -> Iterator[Reader]:
    """A window on a service, without cookies."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(1000 * DEADLINE_S)
    reader = Reader(context.new_page(), f"http://127.0.0.1:{port}")
    allowed = (reader.origin, "data:", "blob:")
    page = reader.page
    page.on("pageerror", lambda error: reader.faults.append(f"error {error}"))
    page.on(
        "console",
        lambda line: (
            reader.faults.append(f"console {line.text} {line.location['url']}") if line.type == "error" else None
        ),
    )
    page.on(
        "request",
        lambda request: reader.faults.append(f"outside {request.url}") if not request.url.startswith(allowed) else None,
    )
    try:
        yield reader
    finally:
        context.close()
