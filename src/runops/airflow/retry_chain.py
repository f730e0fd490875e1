"""Which run a retry goes on from, over the tries of its task: the newest one that failed, and not the first again.

A retry that fails has got further than the run it went on from. To retry that one once more would repeat what has been
done since, such as a payment. So each record of a task with ``retry_of`` keeps where its own retry went on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runops.core import ConfigurationError, NotSupported, Outcome, Provider, RunRef
from runops.core.declaration import Call
from runops.core.waiting.retry_call import following, retry_call


def check_retry(service: Provider) -> None:
    """Refuse ``retry_of`` where a DAG is built.

    :param service: The provider.
    :raises NotSupported: It documents no retry.
    """
    if service.retry is None:
        raise NotSupported(f"{service.title} documents no way to retry a run: leave retry_of out.")


def retry_of(service: Provider, run_id: Any, given: Mapping[str, Any]) -> Call:
    """The retry that a task's arguments ask for, once they are rendered.

    :param service: The provider.
    :param run_id: The run that failed. What a template has rendered to nothing is never taken for a plain submit.
    :param given: The other arguments by name: they say where the run is listed, and nothing else.
    :raises ConfigurationError: The id is none, or an argument is not for a retry.
    """
    # A native template makes a number of an id that is all digits.
    run_id = str(run_id) if isinstance(run_id, int) and not isinstance(run_id, bool) else run_id
    if not isinstance(run_id, str) or not run_id.strip() or run_id == "None":
        raise ConfigurationError(
            f"retry_of is {run_id!r} once it is rendered, which is no id of a run: nothing was submitted. Give the "
            "run_id of a run that failed, or leave retry_of out to start a new one."
        )
    places = {*service.parents, *(service.listing.parent_kinds if service.listing else ())}
    for name, value in given.items():
        if name not in places and value is not None:
            raise ConfigurationError(
                f"{name} cannot be given with retry_of: a retry goes on with what run {run_id} was started with."
            )
    named = {name: str(value) for name, value in given.items() if name in places and value is not None}
    ref = service.ref(run_id.strip(), {name: named[name] for name in service.parents if name in named})
    kinds = service.listing.parent_kinds if service.listing else ()
    return retry_call(service, ref, {name: named[name] for name in kinds if name in named})


def kept(given: Call, call: Call) -> dict[str, Any]:
    """What a record keeps of a retry; nothing for a submit.

    :param given: What the task says.
    :param call: What this try submits.
    """
    return {} if call.retry_of is None else {"retry": {"asked": given.retry_of, "of": call.retry_of}}


def taken_over(provider: Provider, given: Call, record: Mapping[str, Any] | None) -> Call:
    """What a try submits after an earlier one: what the task says or, for the same retry, what follows that one.

    :param provider: The provider.
    :param given: What the task says.
    :param record: What the earlier try has recorded; None where there is nothing.
    """
    chain = (record or {}).get("retry")
    if record is None or given.retry_of is None or not isinstance(chain, Mapping):
        return given
    if chain.get("asked") != given.retry_of:
        # Somebody has named another run since.
        return given
    failed = record.get("ended") == Outcome.FAILED and record.get("ref")
    run_id = RunRef.parse(record["ref"]).run_id if failed else chain.get("of")
    return following(provider, given, provider.ref(str(run_id), given.parents))
