"""The built files of the page "External runs" are whole, name nothing outside, and fit its content security policy."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import runops

STATIC = Path(runops.__file__).parent / "airflow" / "plugin" / "static"
SOURCES = Path(__file__).resolve().parents[2] / "ui" / "src"
LARGEST = 120_000
"""Bytes of all of it, uncompressed."""


def page() -> str:
    return (STATIC / "index.html").read_text(encoding="utf-8")


def test_the_page_names_files_that_are_there_and_whose_names_have_the_hash_of_their_bytes() -> None:
    named = re.findall(r'(?:src|href)="([^"]+)"', page())
    assert {name.rpartition(".")[2] for name in named} == {"js", "css", "svg"}
    for name in named:
        content = (STATIC / name).read_bytes()
        if not name.endswith(".svg"):
            assert hashlib.sha256(content).hexdigest()[:10] in name
    there = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert there == {*named, "index.html", "THIRD_PARTY.txt", "assets/icon-dark.svg"}


def test_the_page_has_no_inline_script_or_style() -> None:
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page(), re.DOTALL)
    assert [body for _, body in scripts] == [""]
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page())


def test_no_file_names_an_address_outside_or_evaluates_a_text() -> None:
    for path in (STATIC / "assets").iterdir():
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[\w.-]+", text))
        # Names of XML's own languages, which no browser asks for.
        assert addresses <= {"http://www.w3.org"}, path.name
        assert not re.search(r"\beval\(|new Function\(|localStorage|sessionStorage|document\.cookie", text), path.name
        assert "@import" not in text
        assert "sourceMappingURL" not in text


def test_no_source_writes_markup() -> None:
    sources = [*SOURCES.glob("*.ts"), *SOURCES.glob("*.tsx")]
    assert len(sources) > 15
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|style=", text, re.IGNORECASE), (
            path.name
        )


def test_the_lock_of_the_front_end_names_no_index_and_has_a_hash_for_each_package() -> None:
    lock = json.loads((SOURCES.parent / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: each for name, each in lock["packages"].items() if name}
    assert len(packages) > 5
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in packages.values())


def test_the_page_is_small_and_says_whose_work_it_contains() -> None:
    assert sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file()) < LARGEST
    assert "The MIT License" in (STATIC / "THIRD_PARTY.txt").read_text(encoding="utf-8")
