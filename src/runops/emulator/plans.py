"""What a run is to become: the plan that a submission or the control API gives for it, and how its parts are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runops.emulator import checks
from runops.emulator.api import Api
from runops.emulator.runs import ScriptError, Step, steps_of

#: What a submission or the control API's defaults may say about a run that is to be made.
RUN_OPTIONS = frozenset({"script", "seconds", "hidden_seconds", "fields", "on_cancel", "on_resume", "on_retry"})


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run to make, as it was asked for; the arguments of :meth:`runops.emulator.store.Emulator.create_run`."""

    script: Any = None
    seconds: Any = None
    run_id: str | None = None
    parents: dict[str, str] = field(default_factory=dict[str, str])
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    shape: str | None = None
    hidden_seconds: Any = 0.0
    held: bool | None = None
    age_seconds: Any = 0.0
    on_cancel: Any = None
    on_resume: Any = None
    on_retry: Any = None
    submitted: Mapping[str, Any] | None = None


def parents_of(value: Any) -> dict[str, str]:
    """Read ``parents``.

    Raises:
        ScriptError: It is no object of texts.
    """
    found = checks.mapping("parents", {} if value is None else value)
    return {
        checks.text("a name in parents", name): checks.text(f"parents.{name}", each) for name, each in found.items()
    }


def script_of(api: Api, script: Any, seconds: Any, usual: float, *, name: str = "script") -> tuple[list[Step], str]:
    """Read ``script`` and ``seconds``: the steps, and the script's name.

    Args:
        api: Whose scripts they are.
        script: The name of a script, a list of steps, or None for the usual script.
        seconds: How long a named script lasts; None for ``usual``.
        usual: Seconds.
        name: What the script was given as, for messages.

    Raises:
        ScriptError: There is no such script, or a step makes no sense.
    """
    script = api.default_script if script is None else script
    if isinstance(script, str):
        moments = api.scripts.get(script)
        if moments is None:
            where = "" if name == "script" else f"{name}: "
            raise ScriptError(
                f"{where}{api.name} has no script {checks.shown(script)}; allowed: {', '.join(api.scripts)}"
            )
        return steps_of(moments, usual if seconds is None else checks.seconds("seconds", seconds)), script
    if isinstance(script, Sequence):
        return checks.steps(name, script), "custom"
    raise ScriptError(f"{name} is the name of a script or a list of steps; got {checks.shown(script)}")


def act_of(name: str, value: Any) -> tuple[list[Step] | None, bool]:
    """Read ``on_cancel`` or ``on_resume``: the steps, None for the provider's own, and whether it is refused.

    Args:
        name: Which of them.
        value: What was given.

    Raises:
        ScriptError: It is neither a known word nor a list of steps.
    """
    if value is None:
        return None, False
    if value == "ignored":
        return [], False
    if value == "refused":
        return None, True
    if isinstance(value, Sequence) and not isinstance(value, str):
        return checks.steps(name, value), False
    raise ScriptError(f'{name} is "ignored", "refused" or a list of steps; got {checks.shown(value)}')


def retry_of(api: Api, on_retry: Any) -> Any:
    """Check ``on_retry``: the script of the run that a retry makes; None for the usual one.

    Raises:
        ScriptError: There is no such script, or a step makes no sense.
    """
    if on_retry is not None:
        script_of(api, on_retry, None, 1.0, name="on_retry")
    return on_retry
