"""Faults on demand: what goes wrong, and for which requests; how it looks on the wire is in befall.py.

A fault is described by these keys; the control API and ``Emulator.add_fault`` take the same:

``kind`` (required)
    ``status``  an error answer: ``status``; optional ``code``, ``message`` (in the provider's own
    error body), ``body`` (any JSON, or a string sent as it is), ``headers``, ``retry_after``
    (seconds) or ``retry_after_date`` (seconds from now, written as an HTTP date).
    ``html``  an HTML error page: ``status`` (default 502).
    ``json``  a literal JSON ``body`` (``null``, ``[]``, ...): ``status`` (default 200).
    ``empty``  no body at all: ``status`` (default 200).
    ``redirect``  ``location``, ``status`` (default 302).
    ``gzip_bomb``  a small compressed answer that inflates to ``bytes`` (default 100,000,000).
    ``delay``  the usual answer after ``seconds``.
    ``drip``  the usual answer at ``bytes_per_second`` (default 10).
    ``half_body``  the headers and half the body, then the connection is closed.
    ``reset``  the connection is reset (RST) with no answer.
``when``
    ``before``: the request is not carried out. ``after``: it is, a submit does create its run, and
    the fault replaces or spoils its answer. Default: ``after`` for ``drip`` and ``half_body``.
``provider, action, method, path_contains, run_id``
    Which requests; all that are given must match. Actions: ``get submit cancel list explain probe``
    and what else the providers' modules name.
``count``
    How many requests it befalls (default 1); null: all until reset.
``skip``
    How many matching requests to let pass first.
``probability``
    Befall a matching request by chance (0 to 1), drawn from the seed.

``reset`` and ``half_body`` need a real connection: in-process ASGI clients get a RuntimeError.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runops.emulator import checks
from runops.emulator.runs import ScriptError

KINDS = frozenset({"status", "html", "json", "empty", "redirect", "gzip_bomb", "delay", "drip", "half_body", "reset"})
SETTINGS = frozenset(
    {
        "status", "code", "message", "body", "headers", "retry_after", "retry_after_date",
        "location", "bytes", "seconds", "bytes_per_second",
    }
)  # fmt: skip
SELECTORS = frozenset(
    {
        "kind",
        "when",
        "provider",
        "action",
        "method",
        "path_contains",
        "run_id",
        "count",
        "skip",
        "probability",
    }
)
#: Which requests a fault is for.
CHOOSERS = ("provider", "action", "method", "path_contains", "run_id")
REQUIRED = {"status": ("status",), "redirect": ("location",)}
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
#: What says where an answer ends; wrong ones would be another kind of fault.
FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})
FAULTS_KEPT = 1_000
#: A pause that no clock could hold is a fault like any other.
HUGE = 1e300


@dataclass
class Fault:
    """One planned fault."""

    fault_id: str
    kind: str
    when: str
    selectors: Mapping[str, Any]
    settings: Mapping[str, Any]
    remaining: int | None
    skip: int
    probability: float | None
    hits: int = field(default=0)

    def matches(self, provider: str, action: str, method: str, path: str, run_id: str | None) -> bool:
        """Tell whether a request is one of those this fault is for."""
        actual = {"provider": provider, "action": action, "method": method, "run_id": run_id}
        if any(self.selectors[name] != actual[name] for name in actual if name in self.selectors):
            return False
        return self.selectors.get("path_contains", "") in path

    def described(self) -> dict[str, Any]:
        """Return this fault as the control API lists it."""
        return {
            "id": self.fault_id,
            "kind": self.kind,
            "when": self.when,
            **self.selectors,
            **self.settings,
            "remaining": self.remaining,
            "hits": self.hits,
        }


class FaultList:
    """The planned faults, in the order in which they were planned; the first that matches befalls."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._random = random.Random(f"{seed}:faults")
        self._made = 0
        self.dropped = 0

    def add(self, description: Mapping[str, Any]) -> str:
        """Plan a fault.

        Raises:
            ScriptError: If the description makes no sense.
        """
        fault = _read_fault(f"fault-{self._made + 1}", description)
        if len(self._faults) >= FAULTS_KEPT:
            self._forget_one()
        self._made += 1
        self._faults.append(fault)
        return fault.fault_id

    def _forget_one(self) -> None:
        spent = next((index for index, fault in enumerate(self._faults) if fault.remaining == 0), None)
        if spent is None:
            raise ScriptError(f"{FAULTS_KEPT} faults are planned and none is used up: reset them first")
        del self._faults[spent]
        self.dropped += 1

    def take(self, provider: str, action: str, method: str, path: str, run_id: str | None) -> Fault | None:
        """Return the fault for a request and use one of its counts up."""
        for fault in self._faults:
            if fault.remaining == 0 or not fault.matches(provider, action, method, path, run_id):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.probability is not None and self._random.random() >= fault.probability:
                continue
            if fault.remaining is not None:
                fault.remaining -= 1
            fault.hits += 1
            return fault
        return None

    def described(self) -> list[dict[str, Any]]:
        """Return the faults as the control API lists them."""
        return [fault.described() for fault in self._faults]

    def clear(self) -> None:
        """Forget the faults and start chance over from the seed."""
        self._faults.clear()
        self.dropped = 0
        self._random = random.Random(f"{self._seed}:faults")


def _read_fault(fault_id: str, description: Mapping[str, Any]) -> Fault:
    checks.names("key", description, SELECTORS | SETTINGS)
    kind = description.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ScriptError(f"unknown kind {checks.shown(kind)}; allowed: {sorted(KINDS)}")
    when = description.get("when")
    if when is None:
        when = "after" if kind in ("drip", "half_body") else "before"
    if when not in ("before", "after"):
        raise ScriptError(f'when is "before" or "after"; got {checks.shown(when)}')
    for name in REQUIRED.get(kind, ()):
        if description.get(name) is None:
            raise ScriptError(f"a {kind} fault needs its {name}")
    selectors = {name: description[name] for name in CHOOSERS if description.get(name) is not None}
    for name, value in selectors.items():
        checks.text(name, value)
    probability = description.get("probability")
    count = description.get("count", 1 if probability is None else None)
    return Fault(
        fault_id=fault_id,
        kind=kind,
        when=when,
        selectors=selectors,
        settings=_read_settings(description),
        remaining=None if count is None else checks.whole("count", count),
        skip=0 if description.get("skip") is None else checks.whole("skip", description["skip"]),
        probability=None if probability is None else checks.number("probability", probability, most=1.0),
    )


def _read_settings(description: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a fault, checked here: the request that it befalls must not be what finds out."""
    settings = {name: description[name] for name in SETTINGS if name in description}
    for name in settings.keys() - {"body"}:
        if settings[name] is None:
            del settings[name]
        else:
            _SETTING_CHECKS[name](name, settings[name])
    checks.json_value("body", settings.get("body"))
    return settings


def _check_headers(name: str, value: Any) -> None:
    for header, text in checks.mapping(name, value).items():
        if not HEADER_NAME.fullmatch(header) or header.lower() in FRAMING:
            raise ScriptError(f"{name}: {checks.shown(header)} is no header that a fault can set")
        checks.header(f"{name}.{header}", str(text))


def _check_retry_after(name: str, value: Any) -> None:
    # A text may be anything that a service may write there.
    if isinstance(value, str):
        checks.header(name, value)
    else:
        checks.number(name, value, least=-HUGE, most=HUGE)


_SETTING_CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    "status": lambda name, value: checks.whole(name, value, least=200, most=599),
    "code": checks.text,
    "message": checks.text,
    "headers": _check_headers,
    "retry_after": _check_retry_after,
    "retry_after_date": lambda name, value: checks.seconds(name, value, least=-checks.LONGEST_SECONDS),
    "location": checks.header,
    "bytes": lambda name, value: checks.whole(name, value, least=2, most=10_000_000_000),
    "seconds": checks.seconds,
    "bytes_per_second": lambda name, value: checks.number(name, value, exclusive=True),
}
