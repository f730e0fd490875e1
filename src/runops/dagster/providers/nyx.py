"""Nyx for Dagster: a resource with the arguments of its runs. All behaviour is in resource.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runops.core import Call, Provider, RunRef, RunSnapshot, find
from runops.dagster.resource import PlainRunsResource


class NyxResource(PlainRunsResource):
    """Nyx by Fabraix, adversarial audits of agents. One run per ``config_name`` may be active."""

    @property
    def declaration(self) -> Provider:
        """The service's declaration."""
        return find("nyx")

    def call(
        self,
        *,
        config_name: str,
        name: str,
        target: Mapping[str, Any],
        objective: str,
        budget_usd: float,
        severity_target: str,
        hints: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Call:
        """An audit, checked and not yet sent.

        Args:
            config_name: Stable name of the audit.
            name: What people call this run.
            target: ``{"url": ..., "endpoint": ..., "credentials": ...}``, with at least one of url and endpoint.
            objective: What the audit should try to make the target do.
            budget_usd: The most it may spend, in USD.
            severity_target: One of low, medium, high, critical.
            hints: Free texts for the audit.
            extra: Further fields of the body.

        Raises:
            ConfigurationError: An argument is wrong.
        """
        return self.declaration.call(
            config_name=config_name,
            name=name,
            target=target,
            objective=objective,
            budget_usd=budget_usd,
            severity_target=severity_target,
            hints=hints,
            extra=extra,
        )

    def submit(
        self,
        *,
        config_name: str,
        name: str,
        target: Mapping[str, Any],
        objective: str,
        budget_usd: float,
        severity_target: str,
        hints: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunRef:
        """Start an audit, once; arguments as in :meth:`call`.

        Raises:
            ConflictError: A run of this ``config_name`` is active.
            SubmitUncertainError: The answer is lost; the candidates are in the error.
            AnswerError: Nothing was started.
        """
        return self._submit(
            self.call(
                config_name=config_name,
                name=name,
                target=target,
                objective=objective,
                budget_usd=budget_usd,
                severity_target=severity_target,
                hints=hints,
                extra=extra,
            )
        )

    def cancel(self, run_id: str | RunRef) -> None:
        """Ask Nyx to stop a run; one that is over is left alone.

        Raises:
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id))

    def recent(self, config_name: str) -> list[RunSnapshot]:
        """The newest runs of an audit, newest first."""
        return self._recent({"config_name": config_name})
