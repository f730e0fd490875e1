"""Where canaries are put into an answer, and by which field one that comes out again is named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ConfigDict

from runops.conformance import canaries
from runops.conformance.canaries import CANARY, hot, planted_everywhere
from runops.conformance.facts import Facts
from runops.core import Provider
from runops.core.declaration import AuthScheme
from tests.conformance.acme_runs import ACME, AcmeJob
from tests.conformance.folders import ACME_ANSWERS, GONE, folder
from tests.conformance.variants import other

DONE = {path.name: GONE for path in ACME_ANSWERS.glob("*.json") if path.name != "3_done.json"}


def found(provider: Provider) -> list[str]:
    return [str(each) for each in canaries.canaries(Facts(provider, folder(DONE)))]


class Raw(AcmeJob):
    """One that shows a note and gives an error as they came."""

    DETAILS = ("plant", "note")
    note: Any = None

    def reason(self) -> str | None:
        return str(self.error) if self.error else None


class Whole(AcmeJob):
    """One that gives the names of all that it does not declare."""

    model_config = ConfigDict(extra="allow")

    def reason(self) -> str | None:
        return " ".join(self.model_extra or {})


ADVICE = "Take it out of the allow-list, or pass it through clean() or detail()."
UNKNOWN = "Declare each field that people may see by its name."


@pytest.mark.parametrize(
    ("provider", "lines"),
    [
        (ACME, []),
        (
            other(body=Raw, spend=None),
            [
                (
                    "wrong  redaction: body.details['note'] (3_done.json): shows what stands in "
                    f"'answer.job.note' as it came (an object with a canary). {ADVICE}"
                )
            ],
        ),
        (
            other(body=Whole, spend=None),
            [(f"wrong  redaction: body.reason (3_done.json): shows fields that it does not declare. {UNKNOWN}")],
        ),
    ],
)
def test_a_canary_that_comes_out_is_named_by_its_place_and_its_field(provider: Provider, lines: list[str]) -> None:
    assert found(provider) == lines


@pytest.mark.parametrize(
    ("prefixes", "key"), [(("acme_", "old_"), f"acme_{CANARY}9f2c4d7e1b"), ((), f"sk-{CANARY}9f2c4d7e1b")]
)
def test_each_kind_of_secret_is_planted(prefixes: tuple[str, ...], key: str) -> None:
    values = hot(Facts(other(auth=AuthScheme("X-Acme-Key", key_prefixes=prefixes)), ()))
    assert values == (
        f"{CANARY}@example.test",
        f"see https://example.test/?token={CANARY}",
        f"the key {key} was refused",
        {"owner": {"email": f"{CANARY}@example.test", "note": CANARY}},
        [CANARY, {"token": CANARY}],
    )


def test_the_places_of_an_answer_are_tried_from_the_outside_in() -> None:
    body = {"a": {"b": [1, {"c": 2}]}, "d": [0] * 9}
    assert canaries._places(body) == [
        ("a",),
        ("d",),
        ("a", "b"),
        *(("d", number) for number in range(5)),
        ("a", "b", 0),
        ("a", "b", 1),
        ("a", "b", 1, "c"),
    ]
    assert len(canaries._places(dict.fromkeys(map(str, range(500))))) == 400


def test_a_canary_is_planted_in_a_copy() -> None:
    body = {"a": [{"b": 1}, 2]}
    assert canaries._with(body, ("a", 0, "b"), "x") == {"a": [{"b": "x"}, 2]}
    assert canaries._with(body, ("a",), None) == {"a": None}
    assert body == {"a": [{"b": 1}, 2]}
    assert canaries._shown(("a", 0, "x" * 99)) == f"a.0.{'x' * 76}"


def test_for_a_connection_all_texts_of_a_run_are_canaries_but_those_that_are_kept() -> None:
    body = {"job": {"id": "J-1", "note": "n", "parts": 7, "owner": {"name": "x"}}, "rows": [{"a": 1}], "other": "o"}
    unknown = {"runops_unknown": f"{CANARY}@example.test", f"https://x.test/{CANARY}": CANARY}
    note = f"{CANARY}@example.test"
    assert planted_everywhere(body, frozenset({"id", "runops_unknown", f"https://x.test/{CANARY}"}), ("job",)) == {
        "job": {"id": "J-1", "note": note, "parts": 7, "owner": {"name": "x", **unknown}, **unknown},
        "rows": [{"a": 1, **unknown}],
        "other": "o",
        **unknown,
    }
    assert body["job"] == {"id": "J-1", "note": "n", "parts": 7, "owner": {"name": "x"}}
    assert planted_everywhere([1], frozenset(), ("job",)) == [1]
