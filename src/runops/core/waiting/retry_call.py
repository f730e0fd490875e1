"""A retry: a run that failed goes on from its point of failure, as a new run. It is a submit, and sent as one.

What is decided here is which run may be retried, and what its :class:`Call` says; submission.py sends it, once, by the
rules of every submit. Nothing here is ever asked for but by a person, or by the program that a person wrote.
"""

from __future__ import annotations

from collections.abc import Mapping

from runops.core.declaration import Call, Provider
from runops.core.model.errors import ConfigurationError, NotSupported, WrongState
from runops.core.model.run import Outcome, RunRef, RunSnapshot
from runops.core.waiting.flows import patient_read
from runops.core.waiting.steps import Flow, renewed


def retry_call(provider: Provider, ref: RunRef, parent: Mapping[str, str] | None = None) -> Call:
    """The retry of a run, ready to be submitted.

    Args:
        provider: The run's provider.
        ref: The run that failed.
        parent: The parent under which the provider lists its runs, by name, where it is known and the address does not
            name it. Without it nothing can be said of a retry whose answer is lost.

    Raises:
        NotSupported: The provider documents no retry.
        ConfigurationError: The run is another provider's, or an id is unusable.
    """
    if provider.retry is None:
        raise NotSupported(f"{provider.title} documents no way to retry a run.")
    provider.request(provider.retry.route, ref)
    if provider.listing is None:
        return provider.retry.call(ref, {})
    named = {kind: ref.parents[kind] for kind in provider.listing.parent_kinds if kind in ref.parents}
    given = parent or named
    return provider.retry.call(ref, provider.pages.parent(given) if given else {})


def following(provider: Provider, call: Call, failed: RunRef) -> Call:
    """What is submitted after the run of a call has failed: for a retry, one of that run, which got further.

    To retry the first run again would repeat what the second one has done.

    Args:
        provider: The provider.
        call: What was submitted.
        failed: Its run.
    """
    return call if call.retry_of is None else retry_call(provider, failed, call.parent)


def learnt_call(provider: Provider, ref: RunRef) -> Flow[Call]:
    """The retry of a run whose parent is read from the run itself, where the address does not name it.

    Raises:
        NotSupported: The provider documents no retry.
        AnswerError: The run could not be read.
    """
    call = retry_call(provider, ref)
    if call.parent or provider.listing is None:
        return call
    return retry_call(provider, ref, parent_of(provider, (yield from patient_look(provider, ref))))


def check_failed(provider: Provider, call: Call) -> Flow[None]:
    """Refuse a retry of a run that has not failed, or that is another parent's.

    Raises:
        WrongState: It has not failed.
        ConfigurationError: It is another parent's.
        AnswerError: It could not be read.
    """
    ref = provider.ref(call.retry_of or "", call.parents)
    now = yield from patient_look(provider, ref)
    shown = parent_of(provider, now)
    if call.parent and shown and not all(provider.same_id(shown.get(k, v), v) for k, v in call.parent.items()):
        raise ConfigurationError(f"{ref} is of {_named(shown)}, not of {_named(call.parent)}. Nothing was submitted.")
    if now.outcome is not Outcome.FAILED:
        raise WrongState(f"{_stands(now)}, and only one that failed can be retried. Nothing was submitted.", now)


def patient_look(provider: Provider, ref: RunRef) -> Flow[RunSnapshot]:
    """How a run stands, by its own route; passing failures are tried again a few times.

    Raises:
        AnswerError: It could not be read.
        UnknownStateError: It is over in a word that is not documented.
    """
    reply = yield from renewed(patient_read(provider.request(provider.status, ref)))
    return provider.read(ref, reply.content).snapshot


def parent_of(provider: Provider, run: RunSnapshot) -> dict[str, str]:
    """The parent under which a provider lists a run, by its address or its details; empty where neither names it."""
    listing = provider.listing
    if listing is None:
        return {}
    known = {kind: run.ref.parents[kind] for kind in listing.parent_kinds if kind in run.ref.parents}
    named = run.details.get(listing.parent_detail) if listing.parent_detail else None
    return known or ({listing.parent_kinds[0]: named} if isinstance(named, str) and named else {})


def _stands(run: RunSnapshot) -> str:
    state = run.state if run.state == run.status else f"{run.state} ({run.status})"
    return f"{run.ref} is {state}"


def _named(parent: Mapping[str, str]) -> str:
    return ", ".join(f"{kind} {value!r}" for kind, value in parent.items())
