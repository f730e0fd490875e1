"""Looks for secrets and private texts in all that a host has written: its database, dumped, and its logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from tests.airflow_host.host import Host
from tests.airflow_host.postgres import Postgres
from tests.leaks.private_fields import STEM
from tests.leaks.written import everything_under, places_of, unpacked

KEY_STEM = "NOT-A-REAL-KEY"
"""What all keys of these tests have in common."""


def leaks_of(host: Host, logs: Path, *words: str) -> list[str]:
    """Every key and private text that a host has written, in any spelling, with its place; empty when nothing leaked.

    Args:
        host: A host, which may be running.
        logs: The folder with the output of its components.
        *words: Further texts to look for.
    """
    texts = list(written_by(host, logs))
    return [
        f"{word} in {place}: ...{around}..."
        for word in (STEM, KEY_STEM, *words)
        for place, around in places_of(word, texts)
    ]


def written_by(host: Host, logs: Path) -> Iterator[tuple[str, bytes]]:
    """All that a host has written, by the names of its places."""
    yield from everything_under(host.home)
    for log in sorted(logs.glob("airflow-*.log")):
        yield log.name, log.read_bytes()
    if host.database is not None:
        yield from dumped(host.database)


def dumped(database: Postgres) -> Iterator[tuple[str, bytes]]:
    """What the rows of all tables hold, one text for each table, and what is packed in a cell."""
    tables = database.query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in sorted(tables):
        texts: list[bytes] = []
        for cell in chain.from_iterable(database.query(f'SELECT * FROM "{table}"')):
            content = bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()
            texts.append(content)
            yield from list(unpacked(f"a cell of {table}", content))[1:]
        yield f"table {table}", b"\n".join(texts)


def places(texts: Iterable[tuple[str, bytes]]) -> set[str]:
    """The names of the places, to see that a search has looked everywhere."""
    return {place for place, _ in texts}
