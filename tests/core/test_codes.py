"""Each error, each end and each held wait ends with a code, once; what is stored or quoted holds none."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import runops
from runops.core.model import errors
from runops.core.model.codes import Code, Coded, text_of, with_code
from runops.core.model.policy import Judgement, OutcomePolicy, Rule, Verdict
from runops.core.model.refusal import RunopsError
from runops.core.model.run import Outcome, RunRef

SOURCE = Path(runops.__file__).parent
REF = RunRef(provider="nexio", run_id="r-1")
PASSES_INSIDE = {"PhaseEntered", "_Encrypted", "_Seen"}
"""Exceptions that are no error to anybody: one part of the code raises them for another."""


def classes(package: str) -> Iterator[type[BaseException]]:
    """All exception classes that a package defines."""
    root = importlib.import_module(package)
    for module in pkgutil.walk_packages(root.__path__, f"{package}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == module.name:
                yield kind


CORE = sorted(set(classes("runops.core")), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", CORE, ids=lambda kind: kind.__name__)
def test_an_error_of_the_core_has_a_code(kind: type[BaseException]) -> None:
    if kind.__name__ in PASSES_INSIDE:
        return
    assert issubclass(kind, Coded)
    assert kind.error_code in set(Code)


SAMPLES = [
    errors.ConfigurationError("A field is wrong."),
    errors.NotSupported("It cannot."),
    errors.ConnectionFailed("No connection."),
    errors.AnswerLost("Lost."),
    errors.MalformedAnswer("HTML."),
    errors.AnotherRun("Another."),
    errors.ServerTrouble("The read was answered 500.", status=500),
    errors.AuthError("Refused.", status=401, code="bad_key"),
    errors.RunNotFound("None."),
    errors.ConflictError("Active."),
    errors.RequestRefused("No."),
    errors.UnknownStateError(REF, "archived", ["completed"]),
    errors.PollingError(REF, 900.0, errors.ServerTrouble("The read was answered 500.", status=500)),
    errors.SubmitUncertainError("The answer is lost.", candidates=[REF]),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_its_text_ends_with_the_code_and_has_it_once(error: RunopsError) -> None:
    assert str(error) == f"{error.text} [{error.error_code}]"
    assert not any(f"[{code}]" in error.text for code in Code), "a text that is quoted brings no code along"
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.error_code) == (str(error), error.error_code)


def test_a_refusal_keeps_its_code_where_its_place_is_put_before_it() -> None:
    refused = errors.ConfigurationError("which is wrong.", error_code=Code.UNKNOWN_NAME).at("calls[3]")
    assert str(refused) == "calls[3]: which is wrong. [unknown-name]"
    assert str(errors.NotSupported("no.").at("a")) == "a: no. [not-supported]"
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused)


def test_a_code_is_not_put_twice() -> None:
    assert with_code("Over. [run-failed]", Code.RUN_FAILED) == "Over. [run-failed]"
    assert with_code("Over.", None) == "Over."
    assert with_code("", Code.RUN_FAILED) == "[run-failed]"
    assert text_of(ValueError("as it is")) == "as it is"


def test_codes_are_short_words_with_hyphens() -> None:
    for code in Code:
        assert re.fullmatch(r"[a-z]+(-[a-z]+){1,2}|conflict", code.value)
        assert code.name.lower().replace("_", "-") == code.value


@pytest.mark.long
def test_every_code_is_used() -> None:
    used: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        if path.name == "codes.py" and path.parent.name == "model":
            continue
        text = path.read_text(encoding="utf-8")
        if "Code." not in text:
            continue
        tree = ast.parse(text)
        used |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Code"
        }
    by_text = {Code.OUTPUT_BROKEN.name, Code.UNEXPECTED_ERROR.name}
    assert {code.name for code in Code} - by_text == used - by_text


def test_the_command_line_spells_its_codes_as_the_core_does() -> None:
    from runops.cli import output, unexpected

    assert output.OutputError.error_code == Code.OUTPUT_BROKEN
    assert unexpected.ERROR_CODE == Code.UNEXPECTED_ERROR
    assert str(output.OutputError("Full.")) == "Full. [output-broken]"
    assert unexpected.describe(KeyError("x")).endswith("[unexpected-error]")


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_end_but_success_has_a_code(outcome: Outcome, verdict: Verdict) -> None:
    code = Judgement(outcome, verdict, Rule.ON_OUTCOME).code
    assert (code is None) == (verdict is Verdict.SUCCEED)


def test_a_skip_says_whether_the_outcome_or_soft_fail_has_made_it() -> None:
    policy = OutcomePolicy.build(soft_fail=True)
    made = {outcome: Judgement(outcome, policy.verdicts[outcome], policy.rules.get(outcome, Rule.DEFAULT)).code
            for outcome in Outcome}  # fmt: skip
    assert made[Outcome.DEGRADED] is Code.RUN_SKIPPED
    assert {made[Outcome.FAILED], made[Outcome.CANCELLED], made[Outcome.TIMED_OUT]} == {Code.SOFT_FAILED}
    assert Judgement(Outcome.TIMED_OUT, Verdict.FAIL, Rule.EXECUTION_TIMEOUT).code is Code.EXECUTION_TIMEOUT
