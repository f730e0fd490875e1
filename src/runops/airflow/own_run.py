"""The run that an operator has submitted: cancelled when a person kills its task, or when no try is left for it.

Whether a try is left is Airflow's own decision, of ``retries``, a retry policy and the kind of the exception. It tells
of it by calling ``on_failure_callback``: on the worker whatever failed there, a template or a callback included; and
in a process of the DAG processor, where the worker died. There nothing of the task is left but its XComs, so the
address of the run stands in one from before the wait.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from runops.airflow._compat import AirflowException
from runops.airflow.hook import RunHook
from runops.airflow.kill import killed_by_person, within
from runops.airflow.records import SUBMITTED, SUBMITTED_RUN, SUBMITTING
from runops.airflow.submission import Submission
from runops.airflow.submitting import Submitting
from runops.airflow.tasks import RunWaiting
from runops.core import RunopsError, RunRef
from runops.core.declaration import Call
from runops.core.model.codes import Code, text_of, with_code
from runops.core.waiting.intent import Intent

KILL_SECONDS = 3.0
"""Between the signal that asks a task to end and the one that ends it lie 5 s."""
STATE_SECONDS = 1.5
LEAVE_SECONDS = 15.0
"""For the cancel at the end of a task: Airflow ends its process 20 s later (``[core] task_success_overtime``)."""
LEAVE_REQUEST_SECONDS = 5.0


class OwnRun(Submitting, RunWaiting):
    """A task that has submitted its run, which it may cancel."""

    _running: tuple[Any, RunRef] | None = None
    _submitting: tuple[Any, Submission] | None = None

    def on_kill(self) -> None:
        """Cancel the run if a person killed the task; leave it if the worker is only being shut down."""
        if not self._can_cancel(self.cancel_on_kill):
            return
        if self._running is not None:
            context, ref = self._running
        elif self._submitting is not None:
            context, ref = self._submitting[0], None
        else:
            return
        run = ref or "the run whose submit was not answered, if there is one"
        if not within(STATE_SECONDS, lambda: killed_by_person(context, clear_kills=self.on_clear == "submit")):
            text = f"Left alone: {run}, since nobody is known to have killed its task."
            self.log.info("%s", with_code(text, Code.LEFT_BEHIND))
            return
        # A clear of a running task cannot be told from a retry afterwards, so the kill leaves its own record.
        within(STATE_SECONDS, lambda: self._task_state(context).update(given_up=True))
        if not within(KILL_SECONDS, lambda: self._cancel(ref, request_timeout=KILL_SECONDS)):
            text = f"Whether {run} is cancelled is not known: there was no answer in time."
            self.log.warning("%s", with_code(text, Code.LEFT_BEHIND))

    def leave_nothing(self, context: Any) -> None:
        """Cancel the run of this task, of whichever try: nobody is left who would wait for it.

        :param context: The task's context.
        """
        if self._result is not None and self._result["run_ended"]:
            return
        what = "The run of this task"
        if self.service.cancel is None:
            text = f"{self.service.title} documents no way to cancel a run: what was submitted may go on."
            self.log.error("%s", with_code(text, Code.LEFT_BEHIND))
            return

        def attempt() -> str:
            nonlocal what
            try:
                found = self._left_run(context)
                if found is None:
                    return "There is no run of this task to cancel."
                ref, conn_id = found
                what = str(ref)
                return self._cancel_unless_over(context, ref, conn_id)
            except (RunopsError, AirflowException) as error:
                text = f"{what} could not be cancelled and may go on: {text_of(error)} `runops orphans` lists it."
                self.log.error("%s", with_code(text, Code.LEFT_BEHIND))
                return ""

        done = within(LEAVE_SECONDS, attempt)
        if done is None:
            text = f"Whether {what} is cancelled is not known (`runops orphans` lists it if not)."
            self.log.error("%s", with_code(text, Code.LEFT_BEHIND))
        elif done:
            self.log.info("%s", done)

    # --- what is left behind ---

    def _left_run(self, context: Any) -> tuple[RunRef, str] | None:
        """The run that this task has submitted, and the connection; None where there is none."""
        conn_id = self._hook().conn_id
        if self._running is not None:
            return self._running[1], conn_id
        record = self._record(context) or {}
        conn_id = record.get("conn_id") or conn_id
        if record.get("state") == SUBMITTED:
            return None if record.get("ended") else (RunRef.parse(record["ref"]), conn_id)
        if record.get("state") == SUBMITTING:
            parent = record.get("parent") or self._call().parent
            return self._lost_run(parent, Intent.from_dict(record.get("intent")), conn_id), conn_id
        if self._submitting is not None and self._submitting[1].intent is not None:
            return self._lost_run(self._call().parent, self._submitting[1].intent, conn_id), conn_id
        pushed = context["ti"].xcom_pull(
            task_ids=context["ti"].task_id, key=SUBMITTED_RUN, map_indexes=context["ti"].map_index
        )
        if isinstance(pushed, Mapping):
            return RunRef.parse(pushed["ref"]), pushed["conn_id"]
        return None

    def _record(self, context: Any) -> dict[str, Any] | None:
        # The DAG processor would wait for an answer that never comes.
        return self._task_state(context).load_any() if self._is_running else None

    @property
    def _is_running(self) -> bool:
        """Whether this is a process that runs the task."""
        return self._on_worker or self._submitting is not None or self._running is not None

    def _lost_run(self, parent: Mapping[str, str], intent: Intent, conn_id: str) -> RunRef:
        """The run of a submit that was not answered, by one look for its mark.

        :raises SubmitUncertainError: It cannot be told.
        """
        hook = RunHook(conn_id, provider=self.provider)
        with hook.client(request_timeout=LEAVE_REQUEST_SECONDS) as client:
            return client.find_submitted(parent, intent, submit_grace=0.0)

    def _cancel_unless_over(self, context: Any, ref: RunRef, conn_id: str) -> str:
        hook = RunHook(conn_id, provider=self.provider)
        with hook.client(request_timeout=LEAVE_REQUEST_SECONDS) as client:
            try:
                if client.get(ref).run_ended:
                    return f"{ref} is over: there is nothing to cancel."
            except RunopsError as error:
                self.log.info("%s could not be read before the cancel: %s", ref, error)
            client.cancel(ref)
        if self._is_running:
            self._task_state(context).update(given_up=True)
        return f"Cancelled {ref}: its task has failed, and no other try waits for it."

    def _cancel(self, ref: RunRef | None, **settings: Any) -> bool:
        """Cancel a run, or where none is given, the one whose submit was not answered, if it bears our mark."""
        with self._hook().client(**settings) as client:
            if ref is None and self._submitting is not None:
                ref = self._submitting[1].find(client)
            if ref is None:
                return False
            client.cancel(ref)
        self.log.info("Cancelled %s.", ref)
        return True

    # --- what subclasses say ---

    @abstractmethod
    def _call(self) -> Call:
        """What the task submits."""
