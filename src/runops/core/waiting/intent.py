"""What must be known, and recorded, before a submit is sent: its mark, and what the parent's list showed."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from runops.core.declaration import Call, Page, Provider
from runops.core.model.errors import AnswerError, ConfigurationError, NotSupported
from runops.core.waiting.flows import list_page, newest_page
from runops.core.waiting.retry_call import check_failed
from runops.core.waiting.steps import Flow

logger = logging.getLogger("runops")

_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_WHO, _NONCE = 7, 6
_MARK = re.compile(rf"\[([{_CONSONANTS}]{{{_WHO}}})[{_CONSONANTS}]{{{_NONCE}}}]\s*$")


@dataclass(frozen=True, slots=True)
class Intent:
    """What is known before a submit is sent. A host records it, so that any later process can find the run.

    Args:
        mark: What the run's text ends with, which no other run bears; None where runs cannot be marked.
        ids_before: The ids that the parent's list showed; None where there is no list, or it could not be read whole.
        clock: The moment at which that list was read, by the service's own clock in unix seconds, or the newest time
            on it if that is later; None where it bore no date.
    """

    mark: str | None = None
    ids_before: frozenset[str] | None = None
    clock: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives, without any payload or secret."""
        ids = None if self.ids_before is None else sorted(self.ids_before)
        return {"mark": self.mark, "ids_before": ids, "clock": self.clock}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any] | None) -> Self:
        """What :meth:`to_dict` wrote. Anything else says nothing, so that no run is taken for ours by it."""
        record = record or {}
        mark, ids, clock = record.get("mark"), record.get("ids_before"), record.get("clock")
        return cls(
            mark=mark if isinstance(mark, str) and mark else None,
            ids_before=frozenset(map(str, cast("list[object]", ids))) if isinstance(ids, list) else None,
            clock=float(clock) if isinstance(clock, (int, float)) else None,
        )


def new_mark(identity: str | None = None) -> str:
    """A mark of 15 characters: seven say who submits, six are for this submit alone.

    Consonants only: they spell nothing, and cannot look like a key, which would be taken out where the text is shown.

    Args:
        identity: What names the submitter for good, such as a task of a DAG run; None for nobody in particular.
    """
    who = _consonants(secrets.token_bytes(8), _WHO) if identity is None else submitter(identity)
    return f"[{who}{_consonants(secrets.token_bytes(8), _NONCE)}]"


def submitter(identity: str) -> str:
    """What every mark of one submitter begins with.

    Args:
        identity: As :func:`new_mark` takes it.
    """
    return _consonants(hashlib.sha256(identity.encode()).digest(), _WHO)


def submitter_of_mark(text: str) -> str | None:
    """Who submitted a run, by the mark that its text ends with: what :func:`submitter` gives. None without a mark."""
    found = _MARK.search(text)
    return None if found is None else found[1]


def _consonants(octets: bytes, count: int) -> str:
    number = int.from_bytes(octets)
    letters: list[str] = []
    for _ in range(count):
        number, rest = divmod(number, len(_CONSONANTS))
        letters.append(_CONSONANTS[rest])
    return "".join(letters)


def list_before_submit(
    provider: Provider, call: Call, *, identity: str | None = None, mark_runs: bool = True, mark: str | None = None
) -> Flow[Intent]:
    """What must be known, and recorded, before a submit is sent.

    A list that cannot be read does not stop the submit: a key may be allowed to start runs and not to list them. Then
    a lost answer is uncertain unless a mark proves whose a run is.

    Args:
        provider: The provider.
        call: What will be submitted.
        identity: As :func:`new_mark` takes it.
        mark_runs: Whether the run's text may be given a mark, where the provider shows one.
        mark: The mark of an earlier POST of the same submission, which was refused: whichever of them starts a run
            after all, it is ours.

    Raises:
        WrongState: The run that is to be retried has not failed.
        AnswerError: It could not be read.
    """
    check_call(provider, call)
    if call.retry_of is not None:
        yield from check_failed(provider, call)
        # No text of ours goes along.
        mark_runs = False
    marks = mark_runs and provider.submit is not None and provider.submit.mark
    mark = (mark or new_mark(identity)) if marks else None
    if provider.listing is None or not call.parent:
        return Intent(mark)
    try:
        # Without a mark all depends on what was there before, and a page says more of it than the newest run.
        page = yield from (newest_page if mark else list_page)(provider, call.parent)
    except (AnswerError, ConfigurationError) as error:
        logger.warning(
            "The runs of %s could not be listed before the submit (%s). The run is submitted all the same; should "
            "the answer get lost, %s.",
            provider.title,
            error,
            "it is found by its mark" if mark else "nobody can tell whether it was started",
        )
        return Intent(mark)
    ids = None if page.unread else frozenset(each.snapshot.ref.run_id for each in page.observations)
    return Intent(mark, ids, _service_time(page))


def fingerprint(call: Call, root: str) -> str:
    """A hash that is equal for two submissions of the same thing to the same place. It holds no payload."""
    content = json.dumps([root, call.path, call.json, dict(call.parents)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def check_call(provider: Provider, call: Call) -> None:
    """Refuse a call that is for another provider, or that its provider cannot start."""
    if call.provider != provider.name:
        raise ConfigurationError(f"This call is for {call.provider}, not for {provider.title}.")
    if call.retry_of is not None and provider.retry is None:
        raise NotSupported(f"{provider.title} documents no way to retry a run.")
    if call.retry_of is None and provider.submit is None:
        raise NotSupported(f"{provider.title} documents no way to start a run.")


def _service_time(page: Page) -> float | None:
    """The service's clock when a page was read. A newer time on the page itself is a clock of the service's too."""
    if page.date is None:
        return None
    runs = [each.snapshot for each in page.observations]
    times = [time for run in runs for time in (run.created_at, run.started_at, run.finished_at) if time is not None]
    return max([page.date, *(time.timestamp() for time in times)])
