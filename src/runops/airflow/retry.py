"""A retry policy that fits what tasks of runops raise. It needs Airflow 3.3 or newer and is loaded only when called."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow import __version__ as airflow_version

from runops.airflow import exceptions
from runops.airflow._compat import TaskDeferralError
from runops.core.model.codes import Code
from runops.core.model.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import ExceptionRetryPolicy

REATTACHING = (exceptions.RunTimedOut, exceptions.PollingError, exceptions.TriggerCrashed, TaskDeferralError)
"""After these an operator's retry goes on with the run that is there, so it need not wait for long."""
BUSY = (exceptions.ConflictError, exceptions.ServiceUnavailable)
"""Nothing was started; somewhat later it may work."""


def runops_retry_policy(
    *, reattach_delay: timedelta = timedelta(seconds=30), busy_delay: timedelta = timedelta(minutes=5)
) -> ExceptionRetryPolicy:
    """When to retry a task of runops, for an operator's or sensor's ``retry_policy``.

    It says how soon, not how often: ``retries`` of the task still bounds that. What must not be retried at all is not
    retried without a policy either. After ``RunFailed`` the task's own ``retry_delay`` holds.

    :param reattach_delay: After ``RunTimedOut``, ``PollingError`` and a crash of the trigger, whose retry re-attaches.
    :param busy_delay: After ``ConflictError`` and ``ServiceUnavailable``.
    :raises ConfigurationError: Airflow is older than 3.3.
    """
    try:
        from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError:
        raise ConfigurationError(
            f"runops_retry_policy needs Airflow 3.3 or newer, and this is {airflow_version}: leave retry_policy out "
            "here, and the task's retry_delay holds after every exception.",
            error_code=Code.NOT_SUPPORTED,
        ) from None
    return ExceptionRetryPolicy(
        [
            RetryRule(
                exception=_paths(*REATTACHING),
                action=RetryAction.RETRY,
                retry_delay=reattach_delay,
                reason="The run may still go on: the next try re-attaches.",
            ),
            RetryRule(
                exception=_paths(*BUSY),
                action=RetryAction.RETRY,
                retry_delay=busy_delay,
                reason="Nothing was started: the next try may be luckier.",
            ),
            RetryRule(exception=_paths(exceptions.RunFailed), action=RetryAction.DEFAULT),
        ]
    )


def _paths(*kinds: type[BaseException]) -> list[type[BaseException] | str]:
    return [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds]
