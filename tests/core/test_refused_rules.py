"""What is refused of policies, clocks, callbacks and sets of runs: by name, with what to do, and with its code."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from runops.core import ConfigurationError, OutcomePolicy, find
from runops.core.many.ledger import Ledger
from runops.core.many.rules import ManyRules, Requirement, check_calls, check_run_ids
from runops.core.waiting.options import WaitOptions
from runops.core.waiting.phases import check_callbacks as checked

NEXIO, NYX, ONEPIN, B3OS, NEKT = (find(name) for name in ("nexio", "nyx", "onepin", "b3os", "nekt"))
CALL: dict[str, Any] = {"engine_slug": "e", "input": {}}
NYX_CALL = NYX.call(config_name="c", name="n", target={"url": "u"}, objective="o", budget_usd=1, severity_target="low")


async def asynchronous(context: object, run: object) -> None:
    """Nothing would await it."""


def alone(context: object) -> None:
    """It takes no run."""


def options(**given: Any) -> WaitOptions:
    return WaitOptions.build(NEXIO, now=0.0, **given)


def mistaken(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (lambda: OutcomePolicy.build({"degradd": "skip"}),
         ("on_outcome names the outcome 'degradd', which does not exist; use succeeded, degraded, "
         "exhausted, failed, cancelled, timed_out. Did you mean 'degraded'? [unknown-name]")),
        (lambda: OutcomePolicy.build({"degraded": "sukceed"}),
         ("on_outcome names the verdict 'sukceed', which does not exist; use succeed, warn, skip, fail. "
         "Did you mean 'succeed'? [unknown-name]")),
        (lambda: OutcomePolicy.build(mistaken(5)),
         "on_outcome must be a mapping such as {'degraded': 'warn'}, not int. [bad-argument]"),
        (lambda: NYX.policy(expect={"findings": 1}),
         ("expect['findings'] is no detail of Nyx runs; there is config_name, name, result, budget_usd, "
         "spent_usd, attempts_completed, findings_count. Did you mean 'findings_count'? [unknown-name]")),
        (lambda: NYX.policy(expect={"x" * 90: 1}),
         (f"expect['{'x' * 80}'] is "
         "no detail of Nyx runs; there is config_name, name, result, budget_usd, spent_usd, "
         "attempts_completed, findings_count. [unknown-name]")),
        (lambda: NYX.policy(expect={"findings_count": []}),
         ("expect['findings_count'] is an empty list, which no run meets: name one value at least. "
         "[bad-argument]")),
        (lambda: NYX.policy(expect={"findings_count": "=1"}),
         "expect['findings_count']='=1' begins with no operator; use == != <= >= < >. [bad-argument]"),
        (lambda: NYX.policy(expect={"findings_count": "~" + "1" * 90}),
         (f"expect['findings_count']='~{'1' * 79}' "
         "begins with no operator; use == != <= >= < >. [bad-argument]")),
        (lambda: NYX.policy(expect={"findings_count": ">= "}),
         "expect['findings_count']='>= ' compares with nothing: write such as '>= 1'. [bad-argument]"),
        (lambda: NYX.policy(expect={"result": "> a"}),
         ("expect['result']='> a' orders a detail that is no number: use == or !=, or a list. "
         "[bad-argument]")),
        (lambda: NYX.policy(expect={"result": ["a", 1, None]}),
         "expect['result']='None' cannot be compared: the detail is a text. [bad-argument]"),
        (lambda: NYX.policy(expect={"findings_count": "many"}),
         "expect['findings_count']='many' cannot be compared: the detail is a number. [bad-argument]"),
        (lambda: ONEPIN.policy(expect={"has_export": "maybe"}),
         "expect['has_export']='maybe' cannot be compared: the detail is true or false. [bad-argument]"),
        (lambda: ONEPIN.policy(expect={"has_export": ">= 1"}),
         ("expect['has_export']='>= 1' orders a detail that is no number: use == or !=, or a list. "
         "[bad-argument]")),
        (lambda: NYX.policy(expect=5),
         "expect must be a mapping such as {'findings_count': 0}, not int. [bad-argument]"),
        (lambda: OutcomePolicy.build(expect={"any": None}),
         "expect['any']='None' cannot be compared: the detail is a number, text or flag. [bad-argument]"),
        (lambda: checked(5),
         ("on_phase must map phases to functions, such as {'waiting': tell_somebody}, not a int. "
         "[bad-argument]")),
        (lambda: checked({"failed": len}),
         ("on_phase='failed' is an outcome: a run that is over is in no phase. on_outcome says what its "
         "end means, and the host's own callbacks are told of the end. [bad-argument]")),
        (lambda: checked({"pausd": print}),
         ("on_phase='pausd' is no phase; the phases are queued, running, paused, waiting, stopping. Did "
         "you mean 'paused'? [unknown-name]")),
        (lambda: checked({"p" * 90: print}),
         (f"on_phase='{'p' * 80}' is "
         "no phase; the phases are queued, running, paused, waiting, stopping. [unknown-name]")),
        (lambda: checked({5: print}),
         ("on_phase='5' is no phase; the phases are queued, running, paused, waiting, stopping. "
         "[unknown-name]")),
        (lambda: checked({"paused": 5}),
         "on_phase[paused] must be a function of the context and the run, not a int. [bad-argument]"),
        (lambda: checked({"paused": [print, 5]}),
         "on_phase[paused][1] must be a function of the context and the run, not a int. [bad-argument]"),
        (lambda: checked({"paused": asynchronous}),
         ("on_phase[paused]: asynchronous is asynchronous, and nothing would await it: give a plain "
         "function, which may call asyncio.run. [bad-argument]")),
        (lambda: checked({"paused": partial(asynchronous)}),
         ("on_phase[paused]: asynchronous is asynchronous, and nothing would await it: give a plain "
         "function, which may call asyncio.run. [bad-argument]")),
        (lambda: checked({"paused": alone}),
         "on_phase[paused]: alone cannot be called with two arguments, context and run. [bad-argument]"),
        (lambda: Requirement.of("most"),
         ("require='most' is not one of all, any, nor a share above 0 and up to 1 such as 0.95. "
         "[unknown-name]")),
        (lambda: Requirement.of("al"),
         ("require='al' is not one of all, any, nor a share above 0 and up to 1 such as 0.95. Did you "
         "mean 'all'? [unknown-name]")),
        (lambda: Requirement.of(1.01),
         ("require=1.01 is not one of all, any, nor a share above 0 and up to 1 such as 0.95. "
         "[unknown-name]")),
        (lambda: Requirement.of(0),
         "require=0 is not one of all, any, nor a share above 0 and up to 1 such as 0.95. [unknown-name]"),
        (lambda: Requirement.of("x" * 90),
         (f"require='{'x' * 79} is "
         "not one of all, any, nor a share above 0 and up to 1 such as 0.95. [unknown-name]")),
        (lambda: Ledger.rows_from_pages({"3": {}}),
         ("The record of this set of runs cannot be read (page 3: KeyError), so nobody knows what was "
         "submitted, and nothing is. Look for its runs at the provider, and clear the task to begin "
         "anew. [record-unreadable]")),
        (lambda: check_calls(NEKT, [{}]),
         "Nekt documents no way to start a run: wait for its runs instead. [not-supported]"),
        (lambda: check_calls(NEXIO, "x"),
         ("calls must be a list of submissions, not str. Where a template gives it, let the DAG render "
         "native objects. [bad-argument]")),
        (lambda: check_calls(NEXIO, {"a": 1}), "calls must be a list of submissions, not dict. [bad-argument]"),
        (lambda: check_calls(NEXIO, []), "calls is empty: name one at least, or leave the task out. [bad-argument]"),
        (lambda: check_calls(NEXIO, [5]),
         "calls[0]: this must be a mapping of the arguments of a submit to Nexio, not int. [bad-argument]"),
        (lambda: check_calls(NEXIO, [CALL, {5: 1}]),
         "calls[1]: an argument is named by int, not by a text. [bad-argument]"),
        (lambda: check_calls(NEXIO, [CALL, CALL | {"engine_slug": ""}]),
         "calls[1]: engine_slug must be a non-empty text, not empty. [bad-argument]"),
        (lambda: check_calls(NEXIO, [CALL, CALL | {"engine_slug": "f"}, CALL]),
         "calls[2] is the same submission as calls[0]: let them differ. [bad-argument]"),
        (lambda: check_calls(NEXIO, [NYX_CALL], field="audits"),
         "audits[0]: This call is for nyx, not for Nexio. [bad-argument]"),
        (lambda: check_run_ids(NEXIO, b"x"), "run_ids must be a list of run ids, not bytes. [bad-argument]"),
        (lambda: check_run_ids(NEXIO, ["a", True]), "run_ids[1]: run_id must be a text, not bool. [bad-argument]"),
        (lambda: check_run_ids(NEXIO, ["a", NYX.ref("b")]),
         "run_ids[1]: nyx run b is not a run of Nexio. [bad-argument]"),
        (lambda: check_run_ids(NEXIO, ["b", "a", " A "], field="ids"),
         "ids[2] is the same run as ids[1]: name each run once. [bad-argument]"),
        (lambda: check_run_ids(ONEPIN, ["a", "b"], [{"workflow_id": "w"}]),
         ("run_ids names 2 runs and there are parents for 1: give one mapping for all runs, or a list of "
         "one for each. [bad-argument]")),
        (lambda: check_run_ids(ONEPIN, ["a", "b"], [{"workflow_id": "w"}, {}]),
         "run_ids[1]: workflow_id is missing: this provider's runs need it beside run_id. [bad-argument]"),
        (lambda: check_run_ids(ONEPIN, [1, "1"], {"workflow_id": "w"}),
         "run_ids[1] is the same run as run_ids[0]: name each run once. [bad-argument]"),
        (lambda: ManyRules.build(max_active=0), "max_active must be a whole number, 1 or more, not 0. [bad-argument]"),
        (lambda: ManyRules.build(max_active="x" * 90),
         ("max_active must be a whole number, 1 or more, not "
         f"'{'x' * 79}. "
         "[bad-argument]")),
        (lambda: ManyRules.build(max_active=True),
         "max_active must be a whole number, 1 or more, not True. [bad-argument]"),
        (lambda: ManyRules.build(max_active=1.0),
         "max_active must be a whole number, 1 or more, not 1.0. [bad-argument]"),
        (lambda: ManyRules.build(max_active="-1"),
         "max_active must be a whole number, 1 or more, not '-1'. [bad-argument]"),
        (lambda: ManyRules.build(stop_early="yes" * 30),
         ("stop_early must be True or False, not "
         f"'{'yes' * 26}y. "
         "[bad-argument]")),
        (lambda: ManyRules.build(max_spend=0), "max_spend must be a number above 0, not 0. [bad-argument]"),
        (lambda: OutcomePolicy.build(soft_fail=mistaken("x" * 90)),
         ("soft_fail must be True or False, not "
         f"'{'x' * 80}'. "
         "[bad-argument]")),
        (lambda: OutcomePolicy.build({"timed_out": "succeed"}),
         ("on_outcome maps timed_out to succeed, but the run has not ended: choose warn, skip or fail. "
         "[bad-argument]")),
        (lambda: OutcomePolicy.build(on_unmet="x"),
         ("on_unmet names the verdict 'x', which does not exist; use succeed, warn, skip, fail. "
         "[unknown-name]")),
        (lambda: OutcomePolicy.from_dict(5), "This is no policy: it is of the type int. [bad-argument]"),
        (lambda: OutcomePolicy.from_dict({"verdicts": 5}),
         "This is no policy: verdicts is of the type int. [bad-argument]"),
        (lambda: OutcomePolicy.from_dict({"rules": "x"}),
         "This is no policy: rules is of the type str. [bad-argument]"),
        (lambda: OutcomePolicy.from_dict({"verdicts": {"failed": "x"}}),
         ("The policy names the verdict 'x', which does not exist; use succeed, warn, skip, fail. "
         "[unknown-name]")),
        (lambda: OutcomePolicy.from_dict({"on_unmet": "x"}),
         ("The policy's on_unmet names the verdict 'x', which does not exist; use succeed, warn, skip, "
         "fail. [unknown-name]")),
        (lambda: OutcomePolicy.from_dict({"expect": {"a": {"sign": "~" * 30, "values": [1]}}}),
         f"This is no condition on a detail: the sign is '{'~' * 20}'. [bad-argument]"),
        (lambda: OutcomePolicy.from_dict({"expect": {"a": {"sign": "==", "values": []}}}),
         "This is no condition on a detail: the sign is '=='. [bad-argument]"),
        (lambda: OutcomePolicy.from_dict({"expect": {"a": 5}}),
         "This is no condition on a detail: the sign is 'None'. [bad-argument]"),
        (lambda: options(timeout=0), "timeout must be a number above 0, not 0. [bad-argument]"),
        (lambda: options(error_budget=0), "error_budget must be a number above 0, not 0. [bad-argument]"),
        (lambda: options(auth_grace=-1), "auth_grace must be a number of seconds, 0 or more, not -1. [bad-argument]"),
        (lambda: options(max_paused=0), "max_paused must be a number above 0, not 0. [bad-argument]"),
        (lambda: options(max_stalled=-1), "max_stalled must be a number above 0, not -1. [bad-argument]"),
        (lambda: options(interval=0), "poll_interval must be a number above 0, not 0. [bad-argument]"),
        (lambda: options(ceiling="x"), "the longest interval must be a number above 0, not 'x'. [bad-argument]"),
        (lambda: options(factor=0.5),
         ("A cadence needs 0 < first <= ceiling and factor >= 1, not first=2.0, factor=0.5, ceiling=30.0. "
         "[bad-declaration]")),
        (lambda: options(max_spend=1),
         ("max_spend=1 cannot bound anything: Nexio does not show what its runs spend; leave it out. "
         "[bad-argument]")),
        (lambda: WaitOptions.build(NYX, now=0.0, max_spend=0),
         "max_spend must be a number above 0, not 0. [bad-argument]"),
    ],
)  # fmt: skip
def test_what_is_refused_of_rules_says_which_and_what_to_do(refused: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refused()
    assert str(caught.value) == said
