"""From the environment and the command line to clients, addresses and policies. It sends nothing."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from typing import Any, cast

from runops.cli.arguments import flag
from runops.core import (
    PROVIDERS,
    AsyncRunClient,
    AuthError,
    ConfigurationError,
    OutcomePolicy,
    Provider,
    RunClient,
    RunRef,
    find,
)
from runops.core.declaration.address import address_variable
from runops.core.declaration.arguments import grace, optional_seconds, positive, seconds
from runops.core.model.codes import Code
from runops.core.model.secret import Secret
from runops.core.telemetry import METER
from runops.core.transport.network_settings import NETWORK_SETTINGS
from runops.core.transport.rate_settings import RATE_SETTINGS
from runops.core.waiting.options import WaitOptions

_SECRET = ("proxy", "rate_store")
"""Settings that may hold a password."""
_TRACE_ID = os.urandom(16).hex()
"""Of this command: a submit and the wait for its run have clients of their own."""


def connect(provider: Provider, **more: Any) -> RunClient:
    """A client for one request after the other.

    Args:
        provider: The service.
        more: Further settings of :class:`RunClient`.

    Raises:
        AuthError: The environment holds no key.
        ConfigurationError: A setting in the environment is wrong.
    """
    return RunClient(provider, **_from_environment(provider), **more)


def connect_async(provider: Provider) -> AsyncRunClient:
    """A client for many waits at once, whose ends the caller counts; raises what :func:`connect` raises."""
    return AsyncRunClient(provider, meter=METER, **_from_environment(provider))


def address(provider: Provider, options: argparse.Namespace, run_id: str) -> RunRef:
    """The run that the command line names.

    Raises:
        ConfigurationError: An id is missing, unusable, or none of this provider's.
    """
    parents = pairs("--parent", options.parent)
    for option, value in vars(options).items():
        if option.startswith("parent_") and value is not None:
            parents[option.removeprefix("parent_")] = value
    missing = [name for name in provider.parents if name not in parents]
    if missing:
        flags = " ".join(f"{flag(name)} ID" for name in missing)
        raise ConfigurationError(f"{provider.title} runs are addressed by more than their id: add {flags}.")
    return provider.ref(run_id, parents)


def parents_of(words: Iterable[str]) -> tuple[str, ...]:
    """What the addresses of runs need beside an id: at a shipped provider, and at the first one that a word names."""
    names = [name for provider in PROVIDERS.values() for name in provider.parents]
    for word in words:
        try:
            names += find(word).parents
        except ConfigurationError:
            continue
        break
    return tuple(dict.fromkeys(names))


def policy(provider: Provider, options: argparse.Namespace) -> OutcomePolicy:
    """The verdicts that the command line asks for.

    Raises:
        ConfigurationError: An outcome or a verdict is unknown.
    """
    return provider.policy(
        pairs("--on-outcome", options.on_outcome),
        soft_fail=getattr(options, "soft_fail", False),
        expect=conditions(options.expect) or None,
        on_unmet=options.on_unmet,
    )


def provider(options: argparse.Namespace) -> Provider:
    """The provider that the command line names, with the words that it teaches.

    Raises:
        ConfigurationError: There is none, or a word is documented.
    """
    return find(options.provider).with_states(pairs("--state", options.state))


def conditions(given: Iterable[str]) -> dict[str, str]:
    """``["a>=1", "b=2"]`` as ``{"a": ">=1", "b": "2"}``.

    Raises:
        ConfigurationError: One has no operator.
    """
    found: dict[str, str] = {}
    for text in given:
        match = re.fullmatch(r"\s*(\w+)\s*(==|!=|<=|>=|=|<|>)\s*(.+)", text, re.DOTALL)
        if match is None:
            raise ConfigurationError(f"--expect takes a condition such as 'findings_count=0', not {text[:80]!r}.")
        name, sign, wanted = match.groups()
        found[name] = wanted.strip() if sign == "=" else f"{sign} {wanted.strip()}"
    return found


def clocks(options: argparse.Namespace) -> dict[str, float | None]:
    """What a wait takes: timeout, error_budget, auth_grace, max_paused, max_stalled, poll_interval, in seconds, and
    max_spend.

    Raises:
        ConfigurationError: One is no number above 0.
    """
    return {
        "timeout": seconds("--timeout", options.timeout),
        "error_budget": seconds("--error-budget", options.error_budget),
        "auth_grace": grace("--auth-grace", options.auth_grace),
        "poll_interval": optional_seconds("--poll-interval", options.poll_interval),
        **limits(options),
    }


def limits(options: argparse.Namespace) -> dict[str, float | None]:
    """What a run itself may not go beyond: max_paused and max_stalled, in seconds, and max_spend.

    Raises:
        ConfigurationError: One is no number above 0.
    """
    return {
        "max_paused": optional_seconds("--max-paused", options.max_paused),
        "max_stalled": optional_seconds("--max-stalled", options.max_stalled),
        "max_spend": None if options.max_spend is None else positive("--max-spend", options.max_spend),
    }


def wait_options(provider: Provider, options: argparse.Namespace, policy: OutcomePolicy, *, now: float) -> WaitOptions:
    """The clocks and limits of a wait that begins now, in unix seconds.

    Raises:
        ConfigurationError: One is wrong, or the provider does not say what its runs spend.
    """
    wanted = policy.expect.details
    if not hasattr(options, "timeout"):
        return WaitOptions.build(provider, now=now, wanted=wanted, **cast("Any", limits(options)))
    given: dict[str, Any] = {**clocks(options)}
    interval = given.pop("poll_interval")
    return WaitOptions.build(provider, now=now, wanted=wanted, interval=interval, **given)


def pairs(flag: str, given: Iterable[str]) -> dict[str, str]:
    """``["a=b"]`` as ``{"a": "b"}``.

    Raises:
        ConfigurationError: One has no equals sign.
    """
    found: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise ConfigurationError(f"{flag} takes NAME=VALUE, not {pair[:80]!r}.")
        found[name.strip()] = value.strip()
    return found


def _from_environment(provider: Provider) -> dict[str, Any]:
    token = Secret(os.environ.get(provider.key_variable))
    if not token:
        raise AuthError(
            f"The environment variable {provider.key_variable} is not set: it holds the key for {provider.title}.",
            error_code=Code.MISSING_KEY,
        )
    prefix = provider.name.upper()
    address = os.environ.get(address_variable(provider.name)) or None
    return {
        "token": token,
        "base_url": address,
        "address_origin": f"the environment variable {address_variable(provider.name)}" if address else "",
        "options": {name: os.environ.get(f"{prefix}_{name.upper()}") or None for name in provider.options},
        "origin": f"the environment variable {provider.key_variable}",
        "user_agent": "cli",
        "trace_id": _TRACE_ID,
        **network_of(prefix),
        **_given(prefix, RATE_SETTINGS),
        "network_origin": network_origin(prefix, (*NETWORK_SETTINGS, *RATE_SETTINGS)),
    }


def network_of(prefix: str) -> dict[str, Any]:
    """The certificates and the proxy that variables with a prefix name."""
    return _given(prefix, NETWORK_SETTINGS)


def network_origin(prefix: str, names: Iterable[str] = NETWORK_SETTINGS) -> str:
    """Where those were set, for messages."""
    return f"the environment ({', '.join(f'{prefix}_{name.upper()}' for name in _given(prefix, names))})"


def _given(prefix: str, names: Iterable[str]) -> dict[str, Any]:
    variables = {name: f"{prefix}_{name.upper()}" for name in names}
    given = {name: variable for name, variable in variables.items() if os.environ.get(variable)}
    return {name: Secret(os.environ[each]) if name in _SECRET else os.environ[each] for name, each in given.items()}
