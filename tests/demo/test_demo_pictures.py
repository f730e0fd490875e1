"""The pictures of the docs: each is shown and told of, small, and says nothing of the machine it was taken on."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.screenshots import browser

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "docs" / "what_you_see.md", ROOT / "docs" / "how_to" / "external_runs.md")
PICTURES = sorted((ROOT / "docs" / "screenshots").glob("*.png"))
ALL_BYTES = 2_000_000


def chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(picture):
        size, kind = struct.unpack_from(">I4s", picture, at)
        yield kind, picture[at + 8 : at + 8 + size]
        at += 12 + size


def test_the_pages_show_every_picture_and_no_other() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES if page.exists())
    shown = re.findall(r"!\[([^\]]+)\]\(screenshots/([\w.]+)\)", texts)
    assert sorted({name for _, name in shown}) == [picture.name for picture in PICTURES]
    assert all(len(told) > len("a picture") for told, _ in shown)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.stem)
def test_a_picture_is_small_and_holds_nothing_but_itself(picture: Path) -> None:
    content = picture.read_bytes()
    found = list(chunks(content))
    (width, _) = struct.unpack_from(">II", dict(found)[b"IHDR"])
    assert width == (browser.NARROW if "_narrow" in picture.stem else browser.WIDTH)
    assert len(content) <= browser.LARGEST
    assert {kind for kind, _ in found} <= {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def test_all_pictures_together_stay_small() -> None:
    assert sum(picture.stat().st_size for picture in PICTURES) <= ALL_BYTES


def test_a_machine_without_a_browser_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(browser.PictureError, match="apt install chromium"):
        browser.chromium()
