"""A browser of one of Airflow's users, and all that it was told: answers, console, storage. It knows no promise."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scripts.screenshots import browser

SESSION_COOKIE = "_token"
"""Airflow's own."""
PATIENCE = 30_000
"""Milliseconds until a page shows what it should."""
LEVELS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
OUTSIDE = "<!doctype html><title>the service</title><h1>the service</h1>"


class Visit:
    """One window, and what came through it.

    Args:
        context: Playwright's context.
        url: Airflow's address.
    """

    def __init__(self, context: Any, url: str) -> None:
        self.context = context
        self.page: Any = context.pages[0]
        self.url = url
        self.bodies: dict[str, str] = {}
        """The text of each answer, by method and address."""
        self.headers: dict[str, dict[str, str]] = {}
        self.statuses: list[tuple[str, int]] = []
        self.console: list[str] = []
        self.outside: list[dict[str, Any]] = []
        """Requests that would have left this machine: address, and headers."""
        self.failures: list[str] = []
        context.on("response", self._response)
        context.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: self.failures.append(str(error.error)))

    def _response(self, response: Any) -> None:
        self.statuses.append((response.url, response.status))
        name = f"{response.request.method} {response.url}"
        self.headers[name] = dict(response.headers)
        if response.url.startswith(self.url):
            with contextlib.suppress(Exception):  # A redirect has no body, and a page may be gone.
                self.bodies[name] = response.text()

    def leave(self, route: Any) -> None:
        """Answer for everything that is not on this machine."""
        self.outside.append({"url": route.request.url, "headers": dict(route.request.headers)})
        route.fulfill(status=200, content_type="text/html", body=OUTSIDE)

    def open(self, path: str, page: Any = None) -> Any:
        """Go to a page of Airflow."""
        (page or self.page).goto(f"{self.url}{path}", wait_until="domcontentloaded")
        return page or self.page

    def settle(self) -> None:
        """Let answers that are under way come in."""
        self.page.wait_for_timeout(300)

    def until(self, what: str, look: Callable[[], Any]) -> Any:
        """What ``look`` gives as soon as it is true; meanwhile the browser's messages are taken in."""
        for _ in range(PATIENCE // 200):
            found = look()
            if found:
                return found
            self.page.wait_for_timeout(200)
        raise AssertionError(f"not within {PATIENCE / 1000:.0f} s: {what}; the address is {self.page.url}")

    def inner(self) -> Any:
        """The document of the page where Airflow has put it into a frame."""

        def found() -> Any:
            return next((frame for frame in self.page.frames if urlsplit(frame.url).path == "/runops/"), None)

        return self.until("the frame is there", found)

    def frames(self) -> list[Any]:
        """All documents of Airflow that are open."""
        return [frame for page in self.context.pages for frame in page.frames if frame.url.startswith(self.url)]

    def stored(self, frame: Any = None) -> str:
        """All that the page has left in the browser, Airflow's own session apart."""
        kept = (frame or self.page).evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}])")
        cookies = [cookie for cookie in self.context.cookies() if cookie["name"] != SESSION_COOKIE]
        databases = (frame or self.page).evaluate("async () => JSON.stringify(await indexedDB.databases())")
        caches = (frame or self.page).evaluate("async () => JSON.stringify(await caches.keys())")
        return "\n".join([kept, json.dumps(cookies), databases, caches])

    def broken_policies(self) -> list[str]:
        """What the browser has said of a violated content security policy."""
        return [line for line in self.console if "Content Security Policy" in line or "Refused to" in line]

    def axe(self, frame: Any = None) -> list[str]:
        """What hinders people on the page, of the levels A and AA."""
        from axe_playwright_python import sync_playwright as axe  # pyright: ignore[reportMissingImports]

        found = axe.Axe().run(frame or self.page, options={"runOnly": {"type": "tag", "values": list(LEVELS)}})
        return [
            f"{each['id']} ({each['impact']}): {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
            for each in found.response["violations"]
        ]


@contextlib.contextmanager
def visiting(url: str, token: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Visit]:
    """A browser of somebody who has logged in.

    Args:
        url: Airflow's address.
        token: The user's token.
        width: Of the window, in pixels.
        height: Likewise.
        dark: Whether the person prefers dark colours.
    """
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with tempfile.TemporaryDirectory(prefix="runops-browser-") as home, sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            home,
            executable_path=browser.chromium(),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"],
            viewport={"width": width, "height": height},
            locale="en-GB",
            timezone_id="UTC",
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        try:
            context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": url}])
            context.set_default_timeout(PATIENCE)
            visit = Visit(context, url)
            context.route(lambda address: not address.startswith((url, "data:", "blob:")), visit.leave)
            yield visit
        finally:
            context.close()


def needed() -> None:
    """Skip the tests where no page can be looked at."""
    try:
        browser.chromium()
        browser.use_packages()
    except Exception as reason:
        pytest.skip(f"needs a Chromium and the packages of {Path(browser.LOCK).name}: {reason}")
