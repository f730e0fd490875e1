"""A Chromium of this machine, and the page in it, served by a stand-in. Without a Chromium all of it is skipped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scripts.front_end import MODULES, install
from scripts.screenshots.browser import PictureError, chromium, use_packages
from tests.page_browser.stand_in import World, served

HERE = Path(__file__).parent
AXE = MODULES / "axe-core" / "axe.min.js"
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""What axe calls the rules of levels A and AA."""
WIDTHS = {"wide": (1280, 900), "narrow": (480, 900)}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder have the mark, and are skipped where there is no browser."""
    here = [item for item in items if HERE in item.path.parents]
    try:
        chromium()
        missing = None
    except PictureError as error:
        missing = pytest.mark.skip(reason=str(error))
    for item in here:
        item.add_marker(pytest.mark.page_browser)
        if missing is not None:
            item.add_marker(missing)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests."""
    use_packages()
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    options = ["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"]
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=chromium(), args=options)
        yield found
        found.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, as the lock of ``ui/`` pins it."""
    install()
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime.now(UTC)


class Visit:
    """A visit to the page: a browser's window, and what went wrong in it.

    Args:
        page: Playwright's page.
        address: The server's, without a slash at the end.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.troubles: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._said)
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        # A refused request is written to the console by the browser; tests of those look at the page.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.troubles.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.outside.append(request.url)

    def open(self, view: str = "", path: str = "/runops/") -> Any:
        """Go to a view, and wait until it shows something of its own."""
        self.page.goto(f"{self.address}{path}{view}")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is loaded any more."""
        busy = "document.querySelector('.loading, [aria-busy=\"true\"]') || !document.querySelector('h1, iframe')"
        self.until(f"!({busy})")

    def until(self, expression: str) -> None:
        """Wait until an expression holds in the page: Playwright's own way is one that the page's policy forbids."""
        deadline = time.monotonic() + 30
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression} does not come true in {self.page.url}"
            self.page.wait_for_timeout(30)

    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth")

    def violations(self, axe: str) -> list[str]:
        """What axe finds: the rule, and the elements."""
        self.page.evaluate(axe)
        found = self.page.evaluate("levels => axe.run({runOnly: levels})", LEVELS)
        return [f"{each['id']}: {[node['html'][:160] for node in each['nodes'][:3]]}" for each in found["violations"]]


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Makes visits; each is checked at the end: no error in the page, and nothing asked of another address."""
    made: list[tuple[Visit, Any]] = []

    @contextmanager
    def visiting(world: World, *, theme: str = "light", width: str = "wide", **more: Any) -> Iterator[Visit]:
        wide, high = WIDTHS[width]
        with served(world) as address:
            context = browser.new_context(
                viewport={"width": wide, "height": high},
                color_scheme=theme,
                locale="en-GB",
                timezone_id="Europe/Berlin",
                reduced_motion="reduce",
                **more,
            )
            context.set_default_timeout(30_000)
            try:
                found = Visit(context.new_page(), address)
                made.append((found, context))
                yield found
            finally:
                context.close()

    yield visiting
    for found, _ in made:
        assert found.troubles == []
        assert found.outside == []
