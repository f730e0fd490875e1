"""Everything that was written under a directory, as texts to search: files, databases, and what is packed in them."""

from __future__ import annotations

import base64
import gzip
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

SQLITE = b"SQLite format 3\x00"
GZIP = b"\x1f\x8b"
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
DEEPEST = 4


def everything_under(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each text by the name of its place."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            place = str(path.relative_to(folder))
            yield f"name of {place}", place.encode()
            yield from unpacked(place, content)
            if content.startswith(SQLITE):
                yield from cells(place, path)


def unpacked(place: str, content: bytes, depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """A content as it is, and what it packs."""
    yield place, content
    if depth < DEEPEST and content.startswith((GZIP, *ZLIB)):
        try:
            inner = gzip.decompress(content) if content.startswith(GZIP) else zlib.decompress(content)
        except (OSError, EOFError, zlib.error):
            return
        yield from unpacked(f"{place}, unpacked", inner, depth + 1)


def cells(place: str, path: Path) -> Iterator[tuple[str, bytes]]:
    """What the rows of a database hold, one text for each table, and each packed cell."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        database.text_factory = bytes
        tables = [name.decode() for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            texts: list[bytes] = []
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for cell in row:
                    content = cell if isinstance(cell, bytes) else str(cell).encode()
                    texts.append(content)
                    yield from islice(unpacked(f"{place}, a cell of {table}", content), 1, None)
            yield f"{place}, table {table}", b"\n".join(texts)


def stems(word: str) -> tuple[bytes, ...]:
    """What stands in every text with a word in it, be it plain, url-encoded, base64, hex or escaped for JSON."""
    found = {word, word.encode().hex(), word.encode("utf-16-le").decode("latin-1")}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + word.encode()).decode().rstrip("=")
        # The first and the last character also hold bits of what stands beside the word.
        first = -(-shift * 4 // 3)
        found.add(encoded[first : len(encoded) - 1 if (shift + len(word)) % 3 else None])
    return tuple(sorted(text.encode("latin-1") for text in found))


def places_of(word: str, texts: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """Where a word stands in any spelling: the place, and what stands around it."""
    found: list[tuple[str, str]] = []
    spelled = stems(word)
    for place, content in texts:
        lower = content.lower()
        for stem in spelled:
            # Base64 tells cases apart; words and hex digits come in both.
            where = lower.find(stem) if stem.lower() == stem else content.find(stem)
            if where >= 0:
                around = content[max(where - 200, 0) : where + 120]
                found.append((place, around.decode("utf-8", "replace")))
    return found
