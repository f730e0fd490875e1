"""A headless Chromium of this machine, and what a picture must show before it is taken. It knows no host."""

from __future__ import annotations

import getpass
import io
import platform
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-screenshots"
LOCK = ROOT / "requirements" / "screenshots.lock"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH = 1280
"""Pixels: the width of a picture."""
NARROW = 480
"""That of a picture on a narrow screen."""
LARGEST = 150_000
"""Bytes of a picture."""
PATIENCE = 30.0
"""Seconds until a page shows what it should."""


class PictureError(Exception):
    """A picture cannot be taken; the text says why."""


def chromium() -> str:
    """The browser on PATH.

    Raises:
        PictureError: There is none; the text says what to install.
    """
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise PictureError(
        f"No browser was found on PATH: looked for {', '.join(NAMES)}. On Debian: apt install chromium; on Fedora: "
        "dnf install chromium; on Ubuntu: snap install chromium."
    )


def use_packages() -> None:
    """Make the packages of the lock importable, beside those of this environment, which win where both have one."""
    ready = ENVIRONMENT / ".ready"
    if not ready.exists() or ready.stat().st_mtime < LOCK.stat().st_mtime:
        make = [sys.executable, ROOT / "scripts" / "setup_environment.py", ENVIRONMENT, "--without-project"]
        subprocess.run([*make, "--lock", LOCK], check=True)
        ready.touch()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site.addsitedir(str(ENVIRONMENT / "lib" / version / "site-packages"))


class Camera:
    """One browser window.

    Args:
        page: Playwright's page.
        folder: Where the pictures go.
        secrets: Texts that no picture may show.
    """

    def __init__(self, page: Any, folder: Path, secrets: Sequence[str]) -> None:
        self.page = page
        self.taken: list[str] = []
        self._folder = folder
        self._never = [*secrets, *_names_of_this_machine()]

    def open(self, address: str) -> None:
        """Go to a page."""
        self.page.goto(address, wait_until="domcontentloaded")

    def see(self, *texts: str) -> None:
        """Wait until the page shows all of these texts.

        Raises:
            PictureError: One does not come.
        """
        for text in texts:
            if not self.shows(text, PATIENCE):
                raise PictureError(f"{self.page.url} does not show {text!r}, but:\n{self.text()}")

    def shows(self, text: str, seconds: float) -> bool:
        """Whether the page shows a text, now or within these seconds."""
        from playwright.sync_api import TimeoutError as Late  # pyright: ignore[reportMissingImports]

        try:
            self.page.get_by_text(text).filter(visible=True).first.wait_for(state="visible", timeout=seconds * 1000)
        except Late:
            return False
        return True

    def never(self, text: str, within: Any = None) -> None:
        """Make sure that a text is not shown.

        Raises:
            PictureError: It is.
        """
        if (within or self.page).get_by_text(text, exact=True).filter(visible=True).count():
            raise PictureError(f"{self.page.url} shows {text!r}, and should not.")

    def holds(self, field: Any, attribute: str, text: str) -> None:
        """Make sure of what an attribute of a field says.

        Raises:
            PictureError: It says something else.
        """
        found = field.get_attribute(attribute) or ""
        if text not in found:
            raise PictureError(f"{self.page.url}: {attribute} is {found!r}, without {text!r}.")

    def size(self, height: int) -> None:
        """Give the window another height, in pixels."""
        self.page.set_viewport_size({"width": self.page.viewport_size["width"], "height": height})

    def text(self) -> str:
        """What the page says, fields of forms included."""
        said = self.page.inner_text("body")
        fields = self.page.locator("input, textarea").evaluate_all("all => all.map(one => one.value)")
        return "\n".join([said, *(field for field in fields if field)])

    def shoot(self, name: str, *shown: str, height: int | None = None, above: str | None = None) -> None:
        """Take a picture of the window.

        Args:
            name: The picture's name, without ``.png``.
            *shown: What the page must show at that moment.
            height: Pixels to show from the top; all of the window if None.
            above: The picture ends above this text.

        Raises:
            PictureError: The page does not show it, shows what it must not, or the picture gets too large.
        """
        self.see(*shown)
        # Fonts, animations and messages that come in.
        self.page.wait_for_timeout(700)
        said = self.text()
        if above is not None:
            said = said.partition(above)[0]
            height = int(self.page.get_by_text(above).filter(visible=True).first.bounding_box()["y"])
        leaked = [text for text in self._never if re.search(rf"(?<!\w){re.escape(text)}(?!\w)", said)]
        if leaked:
            raise PictureError(f"{name}: the page shows {leaked[0][:6]}..., which no picture may show.")
        window = self.page.viewport_size
        clip = {"x": 0, "y": 0, "width": window["width"], "height": height or window["height"]}
        picture = _small(self.page.screenshot(clip=clip, animations="disabled", caret="hide"))
        if len(picture) > LARGEST:
            raise PictureError(f"{name}: {len(picture)} bytes are too many.")
        (self._folder / f"{name}.png").write_bytes(picture)
        self.taken.append(name)


@contextmanager
def camera(folder: Path, secrets: Sequence[str], *, width: int = WIDTH, dark: bool = False) -> Iterator[Camera]:
    """A browser for as long as it is needed.

    Args:
        folder: Where the pictures go.
        secrets: Texts that no picture may show.
        width: Of the window, in pixels.
        dark: Whether the person prefers dark colours.
    """
    program = chromium()
    use_packages()
    from playwright.sync_api import Error, sync_playwright  # pyright: ignore[reportMissingImports]

    # As root, Chromium runs without its sandbox only; it is shown pages of this machine and no other.
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server", "--hide-scrollbars"]
    with tempfile.TemporaryDirectory(prefix="runops-browser-") as home, sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            home,
            executable_path=program,
            args=options,
            viewport={"width": width, "height": 800},
            locale="en-GB",
            timezone_id="UTC",
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        # Fonts of the network are not asked for, and nothing else outside is either.
        context.route(lambda address: not address.startswith(("http://127.0.0.1", "data:", "blob:")), _refuse)
        context.set_default_timeout(PATIENCE * 1000)
        try:
            yield Camera(context.pages[0], folder, secrets)
        except Error as error:
            raise PictureError(f"{context.pages[0].url}: {error}") from error
        finally:
            context.close()


def _refuse(route: Any) -> None:
    route.abort()


def _names_of_this_machine() -> list[str]:
    """What would tell where a picture was taken."""
    return [str(ROOT), tempfile.gettempdir(), platform.node(), getpass.getuser()]


def _small(picture: bytes) -> bytes:
    from PIL import Image  # pyright: ignore[reportMissingImports]

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few_colours = image.quantize(colors=128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few_colours.save(out, format="PNG", optimize=True)
    return out.getvalue()
