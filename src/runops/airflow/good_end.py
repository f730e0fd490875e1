"""What a task says of a good end: the words that it teaches, what its run must show, and what that may cost.

All is checked when the DAG is built, as far as no template fills it later; the rest before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, cast

from runops.airflow.exceptions import in_airflow_terms
from runops.core import OutcomePolicy, Provider, find
from runops.core.model.expectation import check_detail

Expect = Mapping[str, Any] | None


class EndRules:
    """A part of every task that waits for a run."""

    end_fields: ClassVar[tuple[str, ...]] = ("expect",)
    """Template fields of every task."""

    provider: str
    on_outcome: Mapping[str, str] | None
    expect: Expect
    auth_grace: float | timedelta
    max_paused: float | timedelta | None
    soft_fail: bool

    def set_end_rules(
        self,
        *,
        on_outcome: Mapping[str, str] | None,
        states: Mapping[str, str] | None,
        expect: Expect,
        on_unmet: str,
        auth_grace: float | timedelta,
        max_paused: float | timedelta | None,
        max_stalled: float | timedelta | None,
        max_spend: float | None,
    ) -> None:
        """Keep them as they are, since Airflow shows a task by its arguments, and refuse what is wrong."""
        self.on_outcome = on_outcome
        self.states = states
        self.expect = expect
        self.on_unmet = on_unmet
        self.auth_grace = auth_grace
        self.max_paused = max_paused
        self.max_stalled = max_stalled
        self.max_spend = max_spend
        service = self.service
        written, templated = _written(expect)
        for name in templated:
            check_detail(name, service.body.detail_kinds(), title=f"{service.title} runs")
        service.policy(on_outcome, soft_fail=self.soft_fail, expect=written, on_unmet=on_unmet)

    @property
    def service(self) -> Provider:
        """The provider's declaration, with the words that the task teaches."""
        return find(self.provider).with_states(self.states)

    def check_rendered(self) -> None:
        """Refuse what templates have made of ``expect``, before anything is sent.

        :raises ConfigurationError: It cannot be read; names the detail.
        """
        with in_airflow_terms():
            self._policy()

    def _policy(self) -> OutcomePolicy:
        return self.service.policy(
            self.on_outcome, soft_fail=self.soft_fail, expect=self.expect, on_unmet=self.on_unmet
        )

    def _limits(self) -> dict[str, Any]:
        """What bounds the run itself, and the wait for its key, as :meth:`WaitOptions.build` takes it."""
        return {
            "auth_grace": self.auth_grace,
            "max_paused": self.max_paused,
            "max_stalled": self.max_stalled,
            "max_spend": self.max_spend,
            "wanted": tuple(self.expect) if isinstance(self.expect, Mapping) else (),
        }


def _written(expect: object) -> tuple[object, list[str]]:
    """What of ``expect`` stands in the DAG as it is, and the names of the details whose values come from templates."""
    if not isinstance(expect, Mapping):
        return (None, []) if is_template(expect) else (expect, [])
    given = cast("Mapping[str, Any]", expect)
    templated = [name for name, wanted in given.items() if is_template(wanted)]
    return {name: wanted for name, wanted in given.items() if name not in templated}, templated


def is_template(value: object) -> bool:
    """Whether only rendering shows what a value is: a template, or another task's output."""
    match value:
        case str():
            return "{{" in value or "{%" in value
        case list() | tuple():
            return any(is_template(each) for each in cast("list[object]", value))
        case bool() | int() | float() | dict() | None:
            return False
        case _:
            return hasattr(value, "resolve")
