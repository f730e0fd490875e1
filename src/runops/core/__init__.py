"""The shared core of runops: providers, runs, outcomes, verdicts and clients. It knows neither Airflow nor Dagster."""

from runops.core.client import AsyncRunClient, RunClient
from runops.core.errors import (
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
)
from runops.core.policy import DEFAULT_VERDICTS, NYX_AUDIT, NYX_GATE, OutcomePolicy, Verdict
from runops.core.provider import Call, Provider
from runops.core.providers import PROVIDERS, find
from runops.core.run import Outcome, Phase, Progress, RunRef, RunResult, RunSnapshot
from runops.core.states import StateTable

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
    "find",
]
