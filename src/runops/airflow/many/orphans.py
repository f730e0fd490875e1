"""What a task of many runs has left behind, as the pages of its set tell. It imports no Airflow and no provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runops.airflow import records
from runops.airflow.records import Span
from runops.core import ConfigurationError
from runops.core.many.ledger import Ledger
from runops.core.many.rows import Row
from runops.core.waiting.orphans import Suspect

logger = logging.getLogger("runops")

ReadPage = Callable[[int], Mapping[str, Any] | None]
"""A page by its number; None where there is none."""


def suspects_of_set(
    holder: Mapping[str, Any], header: Mapping[str, Any], read_page: ReadPage, *, over: str | None
) -> list[Suspect]:
    """What the sets of a task instance have submitted, and nothing waits for.

    :param holder: The task instance.
    :param header: The header of its last set.
    :param read_page: Reads a page.
    :param over: Why the task does not wait for its last set; None where it does, or will.
    """
    spans = [(span, "its task has begun another set since") for span in records.spans_of(header)]
    if over is not None and not header.get("ended"):
        spans.append((Span.of(header), over))
    return [
        suspect
        for span, why in spans
        for row in _rows(holder, span, read_page)
        if row.may_be_alive and not row.attached and (suspect := _suspect(holder, header, row, why)) is not None
    ]


def _rows(holder: Mapping[str, Any], span: Span, read_page: ReadPage) -> Iterator[Row]:
    for number in range(span.pages):
        page = read_page(span.first + number)
        if page is None:
            continue
        try:
            yield from Ledger.rows_from_pages({number: page})
        except ConfigurationError as error:
            logger.warning("What %s has left cannot be told: %s", "/".join(map(str, holder.values())), error)


def _suspect(holder: Mapping[str, Any], header: Mapping[str, Any], row: Row, why: str) -> Suspect | None:
    credential = header.get("conn_id")
    provider = str(header.get("provider"))
    ref = row.ref(str(header.get("runs_of") or provider))
    if ref is None and row.intent is None:
        return None
    return Suspect(
        provider=provider,
        holder={**holder, "index": row.index},
        why=why,
        credential=None if credential is None else str(credential),
        ref=ref,
        parent=dict(row.parents),
        intent=None if ref is not None else row.intent,
    )
