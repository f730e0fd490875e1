"""What a task would lose if no worker ended it. What a DAG shows is refused there, the rest sends it to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runops.airflow._compat import makes_dag_result, maps_over, render_of_map_index
from runops.airflow.link import RunLink
from runops.core import ConfigurationError

LOST_AT_END: Mapping[str, tuple[str, str]] = {
    "outlets": (
        "Airflow emits asset events only where a worker ends a task",
        "give the outlets to a task after this one",
    ),
    "on_success_callback": (
        "Airflow calls it only where a worker ends a task",
        "put what it does into a task after this one",
    ),
    "on_skipped_callback": (
        "Airflow calls it only where a worker ends a task",
        "put what it does into a task after this one",
    ),
    "post_execute": (
        "Airflow calls it only where a worker ends a task",
        "put what it does into a task after this one",
    ),
    "multiple_outputs": (
        "only a worker pushes each entry of the result by itself",
        "read the entries from the result of the task, which is a dict",
    ),
}
"""By argument: why it needs a worker at the end of a task, and what to do instead."""

LOST_WITHOUT_WORKER: Mapping[str, tuple[str, str]] = {
    "on_execute_callback": ("Airflow calls it only on a worker", "put what it does into a task before this one"),
    "pre_execute": ("Airflow calls it only on a worker", "put what it does into a task before this one"),
    "inlets": ("Airflow checks that they are active only on a worker", "give the inlets to another task"),
}
"""The same, for a task that begins in the triggerer too."""

_HOOKS = {"pre_execute": "_pre_execute_hook", "post_execute": "_post_execute_hook"}
_METHODS_AT_END = ("execute_complete", "resume_execution", "post_execute")
_METHODS_BEFORE = ("execute", "pre_execute")


def refuse_lost(kind: type, given: Mapping[str, Any], *, begins_there: bool) -> None:
    """Refuse a task that ends in the triggerer with something that would be lost by it.

    :param kind: The class of the task.
    :param given: Its arguments.
    :param begins_there: Whether it begins there too.
    :raises ConfigurationError: Names the argument, or the method of the user's own class, and what to do.
    """
    for name, why, instead in _lost(kind, given, begins_there):
        flags = "start_from_trigger=True and end_from_trigger=True" if begins_there else "end_from_trigger=True"
        raise ConfigurationError(
            f"{kind.__name__}: {flags} would lose {name}, because {why}. Leave end_from_trigger out, or {instead}."
        )


def arguments_of(task: Any) -> dict[str, Any]:
    """The arguments of a task that :func:`refuse_lost` looks at, ``default_args`` included."""
    names = {*LOST_AT_END, *LOST_WITHOUT_WORKER}
    return {name: getattr(task, _HOOKS.get(name, name), None) for name in names}


def worker_reason(task: Any, context: Mapping[str, Any] | None = None, *, begins_there: bool = False) -> str | None:
    """Why a worker must end a task, as the rest of a sentence: what its arguments do not show when it is made.

    :param task: The task.
    :param context: Its context, where it begins on a worker.
    :param begins_there: Whether it begins in the triggerer.
    """
    for name, why, _ in _lost(type(task), arguments_of(task), begins_there):
        return f"it has {name}, and {why}"
    if maps_over(task):
        return "a later task is mapped over its result"
    if makes_dag_result(task):
        return "its result is that of its DAG"
    if any(not isinstance(link, RunLink) for link in task.operator_extra_links):
        return "it has links of its own, which a worker fills"
    named = getattr(task, "map_index_template", None)
    if named and (context is None or render_of_map_index(context["ti"]) is None):
        return "its map_index_template can only be filled at its end"
    return None


def _lost(kind: type, given: Mapping[str, Any], begins_there: bool) -> list[tuple[str, str, str]]:
    arguments = {**LOST_AT_END, **(LOST_WITHOUT_WORKER if begins_there else {})}
    methods = (*_METHODS_AT_END, *(_METHODS_BEFORE if begins_there else ()))
    lost = [(name, *arguments[name]) for name in arguments if given.get(name)]
    return [
        *lost,
        *(
            (f"{name}() of {kind.__name__}", "only a worker calls it", "put what it does into another task")
            for name in methods
            if _is_users(kind, name)
        ),
    ]


def _is_users(kind: type, name: str) -> bool:
    """Whether a method is neither ours nor Airflow's."""
    owner = next(each for each in kind.__mro__ if name in vars(each))
    return owner.__module__.partition(".")[0] not in ("runops", "airflow")
