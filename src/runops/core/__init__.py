"""The shared core of runops: providers, runs, outcomes, verdicts and clients. It knows neither Airflow nor Dagster.

The clients are loaded when they are asked for: whoever only declares waits needs no HTTP library.
"""

from typing import TYPE_CHECKING, Any

from runops.core.declaration import Call, Provider
from runops.core.model.errors import (
    AnswerError,
    AuthError,
    ConfigurationError,
    ConflictError,
    FinalError,
    NotSupported,
    PollingError,
    RequestRefused,
    RunNotFound,
    RunopsError,
    SubmitUncertainError,
    TransientError,
    UnknownStateError,
    WrongState,
)
from runops.core.model.policy import DEFAULT_VERDICTS, OutcomePolicy, Verdict
from runops.core.model.run import Outcome, Phase, Progress, RunInPhase, RunRef, RunResult, RunSnapshot
from runops.core.model.states import StateTable
from runops.core.providers import PROVIDERS, find
from runops.core.providers.nyx import NYX_AUDIT, NYX_GATE

if TYPE_CHECKING:
    from runops.core.client import AsyncRunClient, RunClient

__all__ = [
    "DEFAULT_VERDICTS",
    "NYX_AUDIT",
    "NYX_GATE",
    "PROVIDERS",
    "AnswerError",
    "AsyncRunClient",
    "AuthError",
    "Call",
    "ConfigurationError",
    "ConflictError",
    "FinalError",
    "NotSupported",
    "Outcome",
    "OutcomePolicy",
    "Phase",
    "PollingError",
    "Progress",
    "Provider",
    "RequestRefused",
    "RunClient",
    "RunInPhase",
    "RunNotFound",
    "RunRef",
    "RunResult",
    "RunSnapshot",
    "RunopsError",
    "StateTable",
    "SubmitUncertainError",
    "TransientError",
    "UnknownStateError",
    "Verdict",
    "WrongState",
    "find",
]


def __getattr__(name: str) -> Any:
    if name not in ("AsyncRunClient", "RunClient"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from runops.core import client

    return getattr(client, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
