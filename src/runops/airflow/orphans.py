"""The runs that tasks of an Airflow have submitted and that no task waits for, as its public REST API shows them.

It imports no Airflow: the command line and a maintenance DAG read with it, and neither has Airflow's database.

What is read, for each task instance of an operator of runops whose state has changed since a moment: its record in the
task state store (Airflow 3.3 and newer), which survives retries and clears; without one, what its last try has left as
XCom. Where a provider shows our marks, the list of a parent finds what neither knows any more.

A task instance waits while it runs or is deferred, and while Airflow will run it again: a retry that is due, a clear
whose task has not begun. What its record names beside the run that it waits for is left. So is everything of one that
is over, but what it has submitted with ``wait=False``: that it has given away.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from time import time
from typing import Any

from runops.airflow import records
from runops.airflow.many.orphans import suspects_of_set
from runops.airflow.rest import AirflowApi, TaskInstance
from runops.core import PROVIDERS, AnswerError, ConfigurationError, RunRef, find
from runops.core.waiting.intent import Intent, submitter
from runops.core.waiting.orphans import Suspect

logger = logging.getLogger("runops")

LONGEST_RUN = timedelta(days=8)
"""A DAG run that began so long before the time that is looked at may have changed in it: a wait may last a week."""
AT_WORK = frozenset({"running", "deferred", "restarting"})
"""States in which a task waits, or is about to be run again by what runs it."""
DUE = frozenset({None, "scheduled", "queued", "up_for_retry", "up_for_reschedule"})
"""States in which a task waits as long as its DAG run goes on."""
WAITING = ("deferred", "queued", "restarting", "running", "scheduled", "up_for_reschedule", "up_for_retry")
"""All of them, but that of a task which has not begun: its fields are not rendered yet."""
FRESH_SECONDS = 10.0
"""For so long it is known which runs were given to tasks that wait."""
RUN_OVER = frozenset({"success", "failed"})
GIVEN_AWAY = frozenset({"success"})
"""States after which a run may have been left to others on purpose."""

OPERATORS = frozenset(
    f"{name.capitalize()}{kind}" for kind in ("RunOperator", "RunsOperator") for name in ("", *PROVIDERS)
)
"""The operator classes that come with runops. Others are known by what their tasks have left."""

MEMBER = "index"
"""What a holder has where its run is one of many: its place in the set."""
CUT = "Truncated."
"""How Airflow begins a rendered field that was too long for it: then any run may be meant."""
_NAME = re.compile(r"[^\s'\",\[\]]+")
"""A run's id in a list that Airflow shows as text."""


class AirflowTasks:
    """The task instances of one Airflow: what they have submitted, and whether they wait.

    :param api: The API.
    :param since: Task instances that have not changed since then are not looked at.
    :param operators: Names of further operator classes that submit runs.
    :param clock: Seconds, for tests.
    """

    def __init__(
        self,
        api: AirflowApi,
        *,
        since: datetime,
        operators: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time,
    ) -> None:
        self._api = api
        self._clock = clock
        self._since = since
        self._operators = OPERATORS | operators
        self._given: tuple[float, frozenset[str | None]] | None = None

    def suspects(self) -> Iterator[Suspect]:
        """All that was submitted and that no task waits for."""
        for ti in self._instances():
            yield from self._suspects_of(ti)

    def still_left(self, suspect: Suspect) -> bool:
        """Look again whether no task waits for a suspect.

        :param suspect: The suspect.
        """
        ti = self._instance(suspect.holder)
        # Of a task instance that is gone nothing waits, and nothing says whose the run is either.
        return ti is not None and any(_same(each, suspect) for each in self._suspects_of(ti))

    def awaits(self, ref: RunRef) -> bool:
        """Whether a task that was given a run waits for it: a sensor, or any other whose ``run_id`` is rendered so.

        :param ref: The run.
        """
        now = self._clock()
        if self._given is None or now - self._given[0] > FRESH_SECONDS:
            waiting = [ti.rendered for ti in self._api.instances_in(WAITING)]
            self._given = now, frozenset(run_id for fields in waiting for run_id in _given_runs(fields))
        return ref.run_id in self._given[1] or None in self._given[1]

    def cancelled(self, suspect: Suspect, ref: RunRef) -> None:
        """Let a task that takes the run up again know that it is to submit a new one.

        :param suspect: The suspect.
        :param ref: Its run.
        """
        ti = self._instance(suspect.holder)
        if ti is None:
            return
        try:
            if MEMBER in suspect.holder:
                noted = (self._api.stored(ti, records.STOPPED_MANY_KEY) or {}).get("runs") or []
                self._api.store(ti, records.STOPPED_MANY_KEY, {"runs": [*noted, ref.run_id]})
            else:
                self._api.store(ti, records.STOPPED_KEY, ref.run_id)
        except AnswerError as error:
            logger.info("That %s was cancelled could not be noted in Airflow: %s", ref, error)

    def _instance(self, holder: Mapping[str, Any]) -> TaskInstance | None:
        return self._api.instance(holder["dag_id"], holder["dag_run_id"], holder["task_id"], holder["map_index"])

    def _instances(self) -> Iterator[TaskInstance]:
        """The task instances of all operators of ours; those of a user's own class are known by what one has left."""
        tasks: set[tuple[str, str]] = set()
        for ti in self._unique(self._operators):
            tasks.add((ti.dag_id, ti.task_id))
            yield ti
        others: set[str] = set()
        for dag_id, run_id, task_id, map_index in self._api.holders_of(
            records.SUBMITTED_RUN, self._since - LONGEST_RUN
        ):
            if (dag_id, task_id) not in tasks:
                tasks.add((dag_id, task_id))
                ti = self._api.instance(dag_id, run_id, task_id, map_index)
                if ti is not None and ti.operator is not None and ti.operator not in self._operators:
                    others.add(ti.operator)
        if others:
            yield from self._unique(frozenset(others))

    def _unique(self, operators: frozenset[str]) -> Iterator[TaskInstance]:
        seen: set[tuple[str, int]] = set()
        for ti in self._api.instances(self._since, operators):
            if (ti.path, ti.map_index) not in seen:
                seen.add((ti.path, ti.map_index))
                yield ti

    def _suspects_of(self, ti: TaskInstance) -> list[Suspect]:
        waits = self._waits(ti)
        record, page_of = self._api.stored(ti, records.KEY), partial(self._page, self._api.stored, ti, records.KEY)
        if record is None or "state" not in record:
            record = self._of_last_try(ti)
            page_of = partial(self._page, self._api.xcom, ti, records.SUBMITTED_RUN)
        if record is not None and record.get("state") == records.MANY:
            return suspects_of_set(_holder(ti), record, page_of, over=None if waits else _over(ti))
        return suspects_of(ti, record, waits=waits)

    @staticmethod
    def _page(read: Callable[[TaskInstance, str], Any], ti: TaskInstance, key: str, number: int) -> Any:
        return read(ti, records.page_key(key, number))

    def _of_last_try(self, ti: TaskInstance) -> dict[str, Any] | None:
        """What the last try has left as XCom, in the form of a record; None where there is nothing."""
        left = self._api.xcom(ti, records.SUBMITTED_RUN)
        if left is None:
            return None
        result = self._api.xcom(ti, "run")
        ended = result is not None and bool(result.get("run_ended"))
        return {"state": records.SUBMITTED, **left, **({"ended": result.get("outcome")} if ended and result else {})}

    def _waits(self, ti: TaskInstance) -> bool:
        if ti.state in AT_WORK:
            return True
        return ti.state in DUE and self._api.dag_run_state(ti.dag_id, ti.run_id) not in RUN_OVER


def suspects_of(ti: TaskInstance, record: Mapping[str, Any] | None, *, waits: bool) -> list[Suspect]:
    """What a task instance has submitted and does not wait for.

    :param ti: The task instance.
    :param record: Its record; None where there is none.
    :param waits: Whether it waits for the run of that record, or will.
    """
    holder = _holder(ti)
    found = [
        each
        for entry in records.left_of(record)
        if (each := _suspect(holder, entry, "its task has submitted another run since")) is not None
    ]
    current = None if record is None else records.left_behind(record)
    if current is not None and not waits and current.get("waits", True):
        mine = _suspect(holder, current, _over(ti))
        found += [] if mine is None else [mine]
    return found + _by_mark(ti, holder, record, waits=waits)


def _holder(ti: TaskInstance) -> dict[str, Any]:
    return {
        "host": "airflow",
        "dag_id": ti.dag_id,
        "dag_run_id": ti.run_id,
        "task_id": ti.task_id,
        "map_index": ti.map_index,
        "try_number": ti.try_number,
        "task_state": ti.state,
    }


def _over(ti: TaskInstance) -> str:
    return f"its task is over ({ti.state or 'never run again'})"


def _given_runs(rendered: Mapping[str, Any]) -> list[str | None]:
    """The runs that a task was given, by its rendered fields; None among them for some that Airflow does not show."""
    one, many = rendered.get("run_id"), rendered.get("run_ids")
    found: list[str | None] = [] if one is None else [str(one)]
    if isinstance(many, str) and many.startswith(CUT):
        return [*found, None]
    if isinstance(many, str):
        return [*found, *_NAME.findall(many)]
    return [*found, *map(str, many)] if isinstance(many, Sequence) else found


def _suspect(holder: Mapping[str, Any], entry: Mapping[str, Any], why: str) -> Suspect | None:
    """A run, or a lost submit, that a record names; None where a version before wrote too little to find it."""
    try:
        ref = RunRef.parse(entry["ref"]) if entry.get("state") == records.SUBMITTED else None
        provider = entry.get("provider") or (ref.provider if ref is not None else None)
    except (KeyError, ConfigurationError):
        return None
    if provider is None:
        return None
    credential = entry.get("conn_id")
    return Suspect(
        provider=str(provider),
        holder=holder,
        why=why,
        credential=None if credential is None else str(credential),
        ref=ref,
        parent=_texts(entry.get("parent")),
        intent=None if ref is not None else Intent.from_dict(entry.get("intent")),
    )


def _by_mark(
    ti: TaskInstance, holder: Mapping[str, Any], record: Mapping[str, Any] | None, *, waits: bool
) -> list[Suspect]:
    """Whatever bears a mark of this task instance and is not what it waits for, where a provider shows marks."""
    record = record or {}
    known = record.get("state") == records.SUBMITTED
    # Nothing is known of a task that waits without a run, or that has ended well without a record of what it gave away.
    if (waits and not known) or (not record and ti.state in GIVEN_AWAY):
        return []
    parent, credential = _texts(record.get("parent")), record.get("conn_id")
    provider = record.get("provider")
    if not parent:
        provider, parent, credential = _rendered(ti)
    if provider is None or not _shows_marks(str(provider)):
        return []
    kept = waits or not record.get("waits", True)
    spared = {str(record["ref"]["run_id"])} if known and kept else set[str]()
    return [
        Suspect(
            provider=str(provider),
            holder=holder,
            why="its task waits for another run" if waits else _over(ti),
            credential=None if credential is None else str(credential),
            parent=parent,
            submitter=submitter(records.identity(ti.dag_id, ti.run_id, ti.task_id, ti.map_index)),
            spared=frozenset(spared),
        )
    ]


def _rendered(ti: TaskInstance) -> tuple[str | None, dict[str, str], str | None]:
    """The provider, the parent and the connection of a named operator, by what its fields were rendered to."""
    for name, provider in PROVIDERS.items():
        kinds = () if provider.listing is None else provider.listing.parent_kinds
        if _shows_marks(name) and ti.operator == f"{name.capitalize()}RunOperator" and ti.rendered.keys() >= set(kinds):
            conn_id = ti.rendered.get(f"{name}_conn_id")
            return name, {kind: str(ti.rendered[kind]) for kind in kinds}, None if conn_id is None else str(conn_id)
    return None, {}, None


def _shows_marks(name: str) -> bool:
    """Whether the runs of a provider can be told by our mark; of one from elsewhere, if it is known by name here."""
    try:
        # A path that stands in a record is imported by nobody but whoever opens a client for it.
        provider = find(name) if ":" not in name else None
    except ConfigurationError:
        return False
    if provider is None or provider.listing is None:
        return False
    return provider.submit is not None and provider.submit.mark is not None


def _texts(value: object) -> dict[str, str]:
    return {str(key): str(each) for key, each in value.items()} if isinstance(value, Mapping) else {}


def _same(found: Suspect, suspect: Suspect) -> bool:
    """Whether a suspect is still one. One that was found by its mark has got its run since."""
    if suspect.submitter is not None:
        run = None if suspect.ref is None else suspect.ref.run_id
        return found.submitter == suspect.submitter and run not in found.spared
    return (found.ref, found.intent) == (suspect.ref, suspect.intent)
