"""What people decide of a run that stands still: two jobs to launch by hand, with the run in the launchpad's config.

``resume_announcement`` has a paused OnePin run go on, or cancels it. ``retry_payout`` has a failed B3OS run go on from
the node that failed, which starts a new run, and waits for that. Nothing ever launches either of them by itself.
"""

# No postponed annotations here: Dagster reads the config of an op from them.
import dagster as dg

from runops.dagster import wait_for_run


class Announcement(dg.Config):
    """The paused run, and what is decided of it."""

    run_id: str
    workflow_id: str
    go_on: bool
    """False cancels the run."""


# No retry policy: one decision ends one pause, and a retry could end a later one.
@dg.op(required_resource_keys={"onepin_by_hand"})
def go_on_or_stop(context: dg.OpExecutionContext, config: Announcement) -> str:
    """Do what was decided; how the run stands then."""
    onepin = context.resources.onepin_by_hand
    if config.go_on:
        return onepin.resume(config.run_id, config.workflow_id).summary()
    onepin.cancel(config.run_id, config.workflow_id)
    return onepin.get(config.run_id, config.workflow_id).summary()


@dg.job
def resume_announcement() -> None:
    """Have a paused announcement go on, or cancel it."""
    go_on_or_stop()


class Payout(dg.Config):
    """The run that failed."""

    run_id: str
    workflow_id: str = "wf_payout"


# By its call the step remembers the new run: a retry of the step takes it up, Terminate cancels it.
@dg.op(required_resource_keys={"b3os"})
def pay_out_again(context: dg.OpExecutionContext, config: Payout) -> str:
    """Retry the run and wait for the new one; its id."""
    b3os = context.resources.b3os
    ended = wait_for_run(context, b3os, call=b3os.retry_call(config.run_id, config.workflow_id))
    return ended.snapshot.ref.run_id


@dg.job
def retry_payout() -> None:
    """Retry a pay-out that failed."""
    pay_out_again()
