"""The sensor that finds a run of a parent by itself, and then waits for it. How a run is chosen stands in the core."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, Unpack

from runops.airflow._compat import AirflowTaskTimeout
from runops.airflow.arguments import OneRunSettings
from runops.airflow.events import read_found
from runops.airflow.exceptions import RunFailed, SensorRunFailed, as_airflow, in_airflow_terms
from runops.airflow.sensor import WaitingSensor
from runops.airflow.submission import WORKER_SECONDS
from runops.airflow.task_state import TaskState
from runops.airflow.tasks import may_go_on
from runops.airflow.verdicts import publish, published
from runops.core import (
    AnswerError,
    AuthError,
    ConfigurationError,
    FinalError,
    NotSupported,
    PollingError,
    RunopsError,
    RunRef,
    RunResult,
    RunSnapshot,
    find,
)
from runops.core.declaration.arguments import mapping, one_of
from runops.core.waiting.discovery import WHICH, Search, look_for, nothing_found, seek
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.state import WaitProgress

LOOKBACK = timedelta(hours=24)
"""How far before the DAG run's ``run_after`` a search begins where no earlier DAG run says it."""


class RunDiscoverySensor(WaitingSensor):
    """Find a run of a parent (a workflow, a config, a pipeline) that Airflow did not start, and wait until it ends.

    The run is chosen once: its id goes to the XCom ``run_id``, and from then on the sensor behaves as
    :class:`~runops.airflow.sensor.RunSensor` does, with the same arguments, result, exceptions and skips. A retry
    follows the chosen run as long as that has not ended, and looks anew after. (In reschedule mode, and over a retry,
    this needs Airflow 3.3 or newer; below, each search chooses anew.)

    If no run came in time, the outcome is ``timed_out`` and the result's ``run_id`` is empty.

    :param provider: A shipped provider's name, or ``"package.module:NAME"`` for one of your own, with a list of runs.
    :param parent: The parent's id or name, or ``{kind: id}`` where the provider knows several kinds (templated).
    :param since: Only runs created at or after this moment count (templated): a datetime, an ISO-8601 text, or a
        timedelta before the DAG run's ``run_after``. Default: the end of the data interval of the previous successful
        DAG run; where there is none, as in manual and asset-triggered DAG runs, 24 h before ``run_after``. The chosen
        moment is logged, and stays the same over retries (on Airflow 3.3 or newer).
    :param which: ``"latest"``: the newest run since then; ``"next"``: the first one since then, which is what a
        backfill of past days wants.
    :param conn_id: The connection (templated); ``<provider>_default`` if not given.
    """

    template_fields: Sequence[str] = ("parent", "since", "conn_id", "expect")
    template_fields_renderers: ClassVar[dict[str, str]] = {"parent": "json"}
    shared_fields = ("since",)

    def __init__(
        self,
        *,
        provider: str,
        parent: str | Mapping[str, str] | None = None,
        since: datetime | timedelta | str | None = None,
        which: Literal["latest", "next"] = "latest",
        conn_id: str | None = None,
        **kwargs: Unpack[OneRunSettings],
    ) -> None:
        super().__init__(provider=provider, conn_id=conn_id, **kwargs)
        self.parent = parent
        self.since = since
        self.which = which
        service = find(provider)
        if service.listing is None:
            raise NotSupported(f"{service.title} documents no list of runs: wait for a run by its id.")
        one_of("which", which, WHICH)

    def check_one_parent(self) -> None:
        """Refuse a DAG that names no parent, or several.

        :raises ConfigurationError: As it says.
        """
        if sum(getattr(self, name) is not None for name in self.named_fields) != 1:
            raise ConfigurationError(f"{type(self).__name__} needs exactly one of {', '.join(self.named_fields)}.")

    def execute_complete(self, context: Any, event: dict[str, Any] | None = None) -> RunResult:
        """Go on after the trigger's event: wait for the run that it found, or end.

        :param context: The task's context.
        :param event: What the trigger fired.
        """
        ref = read_found(event)
        if ref is None:
            return super().execute_complete(context, event)
        self._choose(context, ref, self.service.url(ref))
        options = self._clocks(deadline=self._deadline(context))
        return self._apply_verdict(context, self._await_run(context, ref, options))

    # --- which run ---

    def _wanted(self, context: Any, options: WaitOptions) -> RunRef | RunSnapshot:
        ref = self._remembered(context)
        if ref is not None:
            self.log.info("Going on with %s, which an earlier try found.", ref)
            return ref
        search = self._search(context)
        here = options
        if self.deferrable:
            here = replace(options, deadline=min(options.deadline, time.time() + WORKER_SECONDS))
        whole = here.deadline == options.deadline
        past = WaitProgress()
        try:
            with self._hook().client() as client:
                found = client.drive(seek(client.provider, search, here, clock=client.clock, past=past))
        except AirflowTaskTimeout:
            return self._last_search(context, search, "execution_timeout")
        except RunopsError as error:
            if whole or not may_go_on(error):
                raise as_airflow(error) from None
        else:
            if not found.ended_by:
                return self._choose(context, found.ref, found.url)
            if whole:
                return found
        return self._defer(context, None, options, search=search, past=past)

    def _poked(self, context: Any) -> RunSnapshot | None:
        ref = self._remembered(context)
        if ref is None:
            with in_airflow_terms():
                search = self._search(context)
            found = self._search_once(context, search)
            if not isinstance(found, RunRef):
                return found
            ref = found
        return self._poke_of(context, ref)

    def _search_once(self, context: Any, search: Search) -> RunRef | RunSnapshot | None:
        """One search in reschedule mode: the run, or the end of the wait for one, or None."""
        task_state = TaskState(context)
        past = task_state.load() or {}
        began = time.time()
        options = self._clocks(deadline=self._deadline(context))
        warned = set[str](past.get("warned") or ())
        try:
            with self._hook().client() as client:
                once = replace(options, deadline=began)
                found = client.drive(seek(client.provider, search, once, clock=client.clock, warned=warned))
        except AuthError as error:
            self._poke(context).refused(error, seen=bool(past.get("listed")))
            return None
        except (PollingError, FinalError) as error:
            if not may_go_on(error):
                raise as_airflow(error) from None
            over = self._poke(context).failed(error, seen=bool(past.get("listed")))
            return nothing_found(self.service, search) if over else None
        except RunopsError as error:
            raise as_airflow(error) from None
        task_state.update(listed=True, failing_since=None, refused_since=None, warned=sorted(warned))
        if not found.ended_by:
            return self._choose(context, found.ref, found.url)
        return found if time.time() >= options.deadline else None

    def _search(self, context: Any) -> Search:
        parent = self._named_parents(None) if self.named_fields else self.parent
        if isinstance(parent, str) and parent.lstrip().startswith("{"):
            # What a template gives for a mapping; no id begins so.
            parent = mapping("parent", parent)
        return Search.build(
            self.service, parent or {}, since=self._since(context), which=self.which, interval=self.interval
        )

    def _since(self, context: Any) -> float:
        """The moment, in unix seconds; the same on each call in one generation."""
        self._began(context)
        task_state = TaskState(context)
        past = task_state.load() or {}
        if past.get("since") is not None:
            return past["since"]
        since, why = moment_of(self.since, context)
        task_state.update(since=since.timestamp())
        moment = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.log.info("Looking for runs that were created since %s: %s.", moment, why)
        return since.timestamp()

    # --- over tries and pokes ---

    def _choose(self, context: Any, ref: RunRef, url: str | None) -> RunRef:
        self.log.info("Chosen: %s.", ref)
        TaskState(context).update(chosen=ref.model_dump(mode="json"))
        publish(context, ref, url)
        return ref

    def _remembered(self, context: Any) -> RunRef | None:
        self._began(context)
        chosen = (TaskState(context).load() or {}).get("chosen")
        return None if chosen is None else RunRef.parse(chosen)

    def _published(self, context: Any) -> RunRef | None:
        """The chosen run as a resumed process finds it, whatever the version of Airflow."""
        run_id = published(context)
        if not run_id:
            return None
        family = self._search(context).parent
        return self.service.ref(run_id, {kind: family[kind] for kind in self.service.parents})

    def _waited_for(self, context: Any) -> RunRef:
        ref = self._published(context)
        if ref is None:
            raise ConfigurationError("No run was found yet.")
        return ref

    @property
    def failed_error(self) -> type[RunFailed]:
        """A retry may find a newer run, but never another first one."""
        return RunFailed if self.which == "latest" else SensorRunFailed

    def _apply_verdict(self, context: Any, snapshot: RunSnapshot) -> RunResult:
        if snapshot.run_ended:
            # The clocks are those of this run: a retry may find another one.
            TaskState(context).update(
                chosen=None,
                seen=None,
                failing_since=None,
                refused_since=None,
                parked_since=None,
                changed_at=None,
                signature=None,
            )
        return super()._apply_verdict(context, snapshot)

    # --- clocks ---

    def _after_deferral_timeout(self, context: Any) -> RunResult:
        with in_airflow_terms():
            if self._published(context) is not None:
                return super()._after_deferral_timeout(context)
            ended = self._last_search(context, self._search(context), self._first_end(context)[1])
        return self._apply_verdict(context, ended)

    def _last_search(self, context: Any, search: Search, ended_by: Any) -> RunSnapshot:
        """A run that a last search finds over has ended; otherwise the clock counts."""
        found = None
        try:
            with self._hook().client() as client:
                found = client.drive(look_for(client.provider, search))
        except AnswerError as error:
            self.log.warning("The last look for the %s failed: %s", search, error)
        if found is None:
            return nothing_found(self.service, search, ended_by)
        self._choose(context, found.ref, found.url)
        return self._last_read(found.ref, None, ended_by)


def moment_of(since: object, context: Mapping[str, Any]) -> tuple[datetime, str]:
    """The moment since which runs count, aware, and why it is that one.

    :param since: What the user says, rendered.
    :param context: The task's context.
    :raises ConfigurationError: It is no moment.
    """
    if isinstance(since, timedelta):
        return context["dag_run"].run_after - since, f"{since} before the DAG run's run_after"
    if since is None:
        # A lazy value of Airflow's, which is asked for only here; DAG runs without a logical date have none.
        previous = context.get("prev_data_interval_end_success")
        if previous:
            return _aware(previous), "the end of the previous successful DAG run's data interval"
        return context["dag_run"].run_after - LOOKBACK, f"{LOOKBACK.total_seconds() / 3600:g} h before the run_after"
    if isinstance(since, datetime):
        return _aware(since), "as since says"
    try:
        return _aware(datetime.fromisoformat(str(since).strip())), "as since says"
    except ValueError:
        raise ConfigurationError(
            f"since={str(since)[:80]!r} is no moment: give a datetime, an ISO-8601 text such as "
            "2026-01-31T06:00:00Z, or a timedelta."
        ) from None


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
