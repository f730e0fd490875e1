"""A maintenance task: which Airflow it reads, how far back, what it cancels, and what it says of each run."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from runops.airflow import maintenance
from runops.airflow.maintenance import cancel_orphans
from runops.core import PROVIDERS, RunRef
from runops.core.waiting.orphans import Act, Orphan, Standing, Suspect

HOLDER = {"host": "airflow", "dag_id": "d"}
REF = RunRef(provider="nyx", run_id="r1")


def orphan(provider: str, standing: Standing, ref: RunRef | None = REF, **more: Any) -> Orphan:
    suspect = Suspect(provider=provider, holder=HOLDER, why="its task is over (failed)", credential="mine", ref=ref)
    return Orphan(suspect=suspect, standing=standing, **more)


class Review:
    """Stands for a look at everything that is left behind."""

    def __init__(self, *found: Orphan) -> None:
        self.found = found
        self.given: Any = None
        self.cancelled: list[Orphan] = []

    def __call__(self, tasks: Any, client: Any) -> Any:
        self.given = (tasks, client)
        return nullcontext(self)

    def find(self) -> Any:
        return iter(self.found)

    def cancel(self, found: Orphan) -> Orphan:
        self.cancelled.append(found)
        return orphan(found.suspect.provider, found.standing, found.ref, act=Act.CANCELLED)


@pytest.fixture
def read(mocker: MockerFixture) -> Any:
    settings = mocker.patch.object(maintenance, "api_settings", return_value={"url": "u"})
    opened = mocker.patch.object(maintenance, "open_api", return_value=nullcontext("an api"))
    api = mocker.patch.object(maintenance, "AirflowApi", return_value="an Airflow")
    tasks = mocker.patch.object(maintenance, "AirflowTasks", return_value="its tasks")
    shown = mocker.patch.object(maintenance.METER, "orphans")
    return SimpleNamespace(settings=settings, opened=opened, api=api, tasks=tasks, shown=shown)


def reviewed(mocker: MockerFixture, *found: Orphan) -> Review:
    return mocker.patch.object(maintenance, "OrphanReview", Review(*found))


@pytest.mark.parametrize(
    ("given", "conn_id", "since"),
    [
        ({}, "airflow_api", timedelta(days=7)),
        ({"api_conn_id": "other", "since": timedelta(hours=3)}, "other", timedelta(hours=3)),
    ],
)
def test_the_airflow_of_a_connection_is_read_back_to_a_moment(
    mocker: MockerFixture, read: Any, given: dict[str, Any], conn_id: str, since: timedelta
) -> None:
    review = reviewed(mocker)
    before = datetime.now(UTC)
    assert cancel_orphans(**given) == []
    read.settings.assert_called_once_with(conn_id)
    read.opened.assert_called_once_with(url="u")
    read.api.assert_called_once_with("an api")
    (call,) = read.tasks.call_args_list
    assert call.args == ("an Airflow",)
    assert before <= call.kwargs.pop("since") + since <= datetime.now(UTC)
    assert call.kwargs == {}
    assert review.given[0] == "its tasks"


@pytest.mark.parametrize("given", [{}, {"cancel": True}, {"cancel": False}])
def test_what_is_found_is_cancelled_unless_it_is_only_to_be_listed(
    mocker: MockerFixture, read: Any, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    left, unread = orphan("nyx", Standing.LEFT), orphan("b3os", Standing.UNREADABLE, None, message="no key")
    review = reviewed(mocker, left, unread)
    with caplog.at_level(logging.INFO):
        found = cancel_orphans(**given)
    lists = given.get("cancel") is False
    assert review.cancelled == ([] if lists else [left, unread])
    assert [each["provider"] for each in found] == ["nyx", "b3os"]
    assert {each["act"] for each in found} == ({None} if lists else {"cancelled"})
    acted = "" if lists else ", cancelled"
    assert caplog.messages[0].startswith(f"nyx run r1 ({Standing.LEFT}{acted}): its task is over (failed). ")
    assert caplog.messages[1].startswith(f"A submit to b3os ({Standing.UNREADABLE}{acted}): ")
    if lists:
        assert caplog.messages[1].endswith(". no key")
        levels = [logging.INFO if each.settled else logging.WARNING for each in (left, unread)]
        assert [record.levelno for record in caplog.records] == levels
    ((providers, counted),) = [call.args for call in read.shown.call_args_list]
    assert providers is PROVIDERS
    assert list(counted) == (["nyx"] if lists else [])


def test_those_that_go_on_are_counted_by_their_service(mocker: MockerFixture, read: Any) -> None:
    found = [orphan("nyx", Standing.LEFT), orphan("b3os", Standing.LEFT), orphan("nyx", Standing.UNREADABLE, None)]
    reviewed(mocker, *found)
    counts: list[str] = []
    read.shown.side_effect = lambda providers, each: counts.extend(each)
    cancel_orphans(cancel=False)
    assert counts == ["nyx", "b3os"]


def test_each_run_is_read_with_the_connection_that_has_submitted_it(mocker: MockerFixture, read: Any) -> None:
    hook = mocker.patch.object(maintenance, "RunHook")
    review = reviewed(mocker)
    cancel_orphans()
    assert review.given[1]("nyx", "mine") is hook.return_value.client.return_value
    hook.assert_called_once_with("mine", provider="nyx")
    hook.return_value.client.assert_called_once_with()
