"""The declarations as tables for people: the README and the command line show them. Nothing is decided from a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runops.core.declaration import Provider
from runops.core.model.policy import DEFAULT_VERDICTS
from runops.core.model.run import Outcome
from runops.core.providers import PROVIDERS

Row = tuple[str, ...]


def states(provider: Provider) -> list[Row]:
    """Every documented word of a provider: word, what it means, the verdict by default or ``goes on``."""
    policy = provider.policy()
    rows: list[Row] = []
    for (_, _, row), shown in zip(provider.states, provider.states.known, strict=True):
        meaning = row.meaning
        verdict = policy.decide(meaning).value if isinstance(meaning, Outcome) else "goes on"
        settles = f" (after {row.grace_seconds:.0f} s without a result)" if row.grace_seconds else ""
        rows.append((shown, f"{meaning.value}{settles}", verdict))
    return rows


def all_states(providers: Iterable[Provider] = PROVIDERS.values()) -> list[Row]:
    """The rows of :func:`states` for several providers, each with the provider's title before it."""
    return [(provider.title, *row) for provider in providers for row in states(provider)]


def verdicts() -> list[Row]:
    """Outcome, default verdict, and what ``soft_fail=True`` makes of it, by the first provider that changes nothing."""
    softened = next(iter(PROVIDERS.values())).policy(soft_fail=True)
    return [
        (outcome.value, verdict.value, softened.decide(outcome).value) for outcome, verdict in DEFAULT_VERDICTS.items()
    ]


def abilities(providers: Iterable[Provider] = PROVIDERS.values()) -> list[Row]:
    """What each provider's API lets us do: title, read, submit, cancel, resume, retry, list, and the cadence."""
    rows: list[Row] = []
    for provider in providers:
        cadence = provider.cadence
        pace = f"every {cadence.first:g} s"
        if cadence.ceiling > cadence.first:
            pace = f"{cadence.first:g} s, slowing to {cadence.ceiling:g} s"
        address = ", ".join((*provider.parents, "run_id"))
        declared = (provider.submit, provider.cancel, provider.resume, provider.retry, provider.listing)
        can = ["yes" if ability else "no" for ability in declared]
        rows.append((provider.title, f"by {address}", *can, pace))
    return rows


def keys(providers: Iterable[Provider] = PROVIDERS.values()) -> list[Row]:
    """What each provider's credential needs: title, connection type, header, environment variable, options."""
    return [
        (
            provider.title,
            f"`{provider.name}`",
            f"`{provider.auth.header}`",
            f"`{provider.key_variable}`",
            ", ".join(f"`{option}`" for option in provider.options) or "none",
            provider.docs,
        )
        for provider in providers
    ]


def details(providers: Iterable[Provider] = PROVIDERS.values()) -> list[Row]:
    """What ``expect`` can look at and ``max_spend`` can bound: title, details with their kinds, what is spent."""
    rows: list[Row] = []
    for provider in providers:
        kinds = provider.body.detail_kinds() or {}
        shown = ", ".join(f"`{name}` ({kind})" for name, kind in kinds.items())
        spend = provider.spend
        spent = f"{spend.unit} (`{'` + `'.join(spend.details)}`)" if spend else "not shown"
        rows.append((provider.title, shown, spent))
    return rows


def markdown(name: str) -> str:
    """One of the tables of the documentation: ``states``, ``verdicts``, ``abilities``, ``keys`` or ``details``."""
    header, rows = {
        "states": (("provider", "its word", "means", "verdict by default"), all_states),
        "verdicts": (("outcome", "verdict by default", "with `soft_fail=True`"), verdicts),
        "details": (("provider", "details of a run", "it spends"), details),
        "abilities": (("provider", "read", "submit", "cancel", "resume", "retry", "list", "is read"), abilities),
        "keys": (
            ("provider", "connection type", "header", "environment variable", "options", "documentation"),
            keys,
        ),
    }[name]
    lines: list[Sequence[str]] = [header, ["---"] * len(header), *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
