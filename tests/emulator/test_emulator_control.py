"""Scripts, clocks, the journal and the control API; and that a seed fixes everything."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any

import httpx
import pytest

import runops
from runops.emulator import create_app
from runops.emulator.runs import ScriptError
from runops.emulator.services import default_apis
from runops.emulator.store import Emulator

PROVIDERS = [cls.name for cls in default_apis()]


def seconds_of(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def test_a_custom_script_is_followed_to_the_step(call, emulator) -> None:
    script = [
        {"set": {"status": "processing"}},
        {"after": 2, "set": {"stage": "FILTER"}},
        {"after": 3, "set": {"status": "completed", "completed_at": "$now"}, "unset": ["stage"]},
        {"at": 9, "set": {"late": {"when": ["$now"]}}},
    ]
    body = {"provider": "nexio", "run_id": "run-1", "script": script, "fields": {"extra": 1}, "held": True}
    made = call.control("POST", "/runs", json=body)
    assert (made.status_code, made.json()["run_id"]) == (201, "run-1")
    pages = []
    for _ in range(10):
        pages.append(call.read("nexio", "run-1").json())
        call.control("POST", "/advance", json={"run_id": "run-1", "seconds": 1})
    assert [page["status"] for page in pages] == ["processing"] * 5 + ["completed"] * 5
    assert ["stage" in page for page in pages] == [False, False, True, True, True] + [False] * 5
    assert all(page["extra"] == 1 for page in pages)
    assert ["late" in page for page in pages] == [False] * 9 + [True]
    assert pages[9]["late"]["when"][0].endswith("Z")


def test_steps_take_place_when_they_were_due_and_not_when_somebody_looks() -> None:
    clock = [1_800_000_000.0]
    emulator = Emulator(default_apis(), now=lambda: clock[0])
    run_id = emulator.create_run("nexio", script="succeeded", seconds=10)
    clock[0] += 3600
    fields = emulator.runs(run_id=run_id)[0]["fields"]
    assert seconds_of(fields["completed_at"]) - seconds_of(fields["created_at"]) == 10


def test_a_run_can_have_begun_before_now() -> None:
    emulator = Emulator(default_apis(), now=lambda: 1_800_000_000.0)
    run_id = emulator.create_run("nekt", script="succeeded", seconds=10, age_seconds=86_400)
    fields = emulator.runs(run_id=run_id)[0]["fields"]
    assert fields["status"] == "success"
    assert seconds_of(fields["created_at"]) == 1_800_000_000 - 86_400
    assert seconds_of(fields["updated_at"]) == 1_800_000_000 - 86_390


def test_a_held_run_stands_still_and_goes_on_where_it_stopped() -> None:
    clock = [1_800_000_000.0]
    emulator = Emulator(default_apis(), now=lambda: clock[0])
    run_id = emulator.create_run("b3os", script="succeeded", seconds=10)
    clock[0] += 4
    emulator.hold(run_id=run_id)
    clock[0] += 1000
    assert emulator.runs(run_id=run_id)[0]["status"] == "running"
    emulator.hold(False, run_id=run_id)
    clock[0] += 5
    assert emulator.runs(run_id=run_id)[0]["status"] == "running"
    clock[0] += 1
    run = emulator.runs(run_id=run_id)[0]
    assert run["status"] == "success"
    assert seconds_of(run["fields"]["finishedAt"]) == 1_800_001_010


def test_a_hold_without_a_run_also_holds_later_ones_until_it_is_lifted(call, emulator) -> None:
    call.control("POST", "/hold", json={"provider": "nyx", "held": True})
    held = emulator.create_run("nyx")
    free = emulator.create_run("nexio")
    assert [emulator.runs(run_id=run_id)[0]["held"] for run_id in (held, free)] == [True, False]
    call.control("POST", "/hold", json={"provider": "nyx", "held": False})
    assert [run["held"] for run in emulator.runs()] == [False, False]
    assert not emulator.runs(run_id=emulator.create_run("nyx"))[0]["held"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_hidden_run_is_404_until_its_time(call, emulator, provider) -> None:
    run_id = emulator.create_run(provider, script="forever", hidden_seconds=5, held=True)
    assert call.read(provider, run_id).status_code == 404
    emulator.advance(5, run_id=run_id)
    assert call.read(provider, run_id).status_code == 200


def test_fields_can_be_set_and_removed_at_any_moment(call, emulator) -> None:
    run_id = emulator.create_run("onepin", script="running")
    body = {"provider": "onepin", "run_id": run_id, "set": {"error": "x"}, "unset": ["run_number"]}
    call.control("POST", "/set", json=body)
    page = call.read("onepin", run_id).json()["data"]
    assert page["error"] == "x"
    assert "run_number" not in page


def test_planted_values_show_on_the_wire(call, emulator) -> None:
    run_id = emulator.create_run("b3os", fields={"propValues": {"pin": "canary-1"}, "novel": "canary-2"})
    assert {"canary-1", "canary-2"} <= set(call.read("b3os", run_id).text.split('"'))


def test_defaults_choose_for_submits_that_do_not(call, emulator) -> None:
    call.control("POST", "/defaults", json={"provider": "b3os", "script": "waiting", "fields": {"totalCu": 9}})
    call.submit("b3os")
    run = emulator.runs(provider="b3os")[0]
    assert (run["script"], run["fields"]["totalCu"]) == ("waiting", 9)
    call.control("POST", "/defaults", json={"script": None})
    call.submit("b3os")
    assert emulator.runs(provider="b3os")[1]["script"] == "succeeded"


def test_the_journal_counts_and_filters(call, emulator) -> None:
    call.submit("nyx", script="forever")
    call.submit("nyx", script="forever")
    call.read("nyx", emulator.runs(provider="nyx")[0]["run_id"])
    call("nekt", "GET", "/nowhere")
    submits = call.control("GET", "/requests", params={"provider": "nyx", "action": "submit"}).json()
    assert [entry["status"] for entry in submits["requests"]] == [201, 409]
    assert submits["requests"][0]["created_run_id"] == emulator.runs(provider="nyx")[0]["run_id"]
    assert call.control("GET", "/requests", params={"status": "409", "count_only": "true"}).json() == {"count": 1}
    assert emulator.requests(provider="nekt")[0]["action"] == "unknown"
    after = emulator.requests()[-2]["index"]
    assert len(emulator.requests(after=after)) == 1
    assert emulator.runs(provider="nyx")[0]["reads"] == 1
    assert emulator.runs(provider="nyx")[0]["body"]["config_name"] == "nightly"


def test_a_key_is_never_told(call, emulator) -> None:
    for provider in PROVIDERS:
        run_id = emulator.create_run(provider)
        for key in ("s3cret-key", "invalid-s3cret", "forbidden-s3cret"):
            call.read(provider, run_id, key=key)
    told = [call.control("GET", path).text for path in ("/requests", "/runs", "/faults")]
    assert "s3cret" not in "".join(told)
    assert {entry["key"] for entry in emulator.requests()} == {"accepted", "invalid", "forbidden"}
    assert all("authorization" in entry["headers"] for entry in emulator.requests(provider="nexio"))


def test_reset_forgets_what_it_is_told_to(call, emulator) -> None:
    emulator.create_run("nexio")
    emulator.add_fault(kind="empty")
    call("nexio", "GET", "/nowhere")
    call.control("POST", "/reset", json={"only": ["requests"]})
    assert (len(emulator.runs()), len(emulator.requests()), emulator.fault_list.described()[0]["hits"]) == (1, 0, 1)
    call.control("POST", "/reset")
    assert (emulator.runs(), emulator.fault_list.described()) == ([], [])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/runs", {"provider": "acme"}),
        ("/runs", {}),
        ("/runs", {"provider": "nexio", "script": "nonsense"}),
        ("/runs", {"provider": "nexio", "script": 3}),
        ("/runs", {"provider": "nexio", "script": [{"wait": 3}]}),
        ("/runs", {"provider": "nexio", "script": [{"after": "soon"}]}),
        ("/runs", {"provider": "nexio", "speed": 3}),
        ("/runs", {"provider": "nexio", "shape": "flat"}),
        ("/runs", {"provider": "nekt", "shape": "round"}),
        ("/runs", {"provider": "nyx", "on_cancel": "laugh"}),
        ("/runs", []),
        ("/defaults", {"colour": "red"}),
        ("/hold", {"run_id": "nowhere"}),
        ("/set", {"provider": "nexio"}),
        ("/faults", {"kind": "flood"}),
        ("/faults", {"kind": "status"}),
        ("/faults", {"kind": "redirect"}),
        ("/faults", {"kind": "empty", "colour": "red"}),
        ("/faults", {"kind": "empty", "provider": "acme"}),
        ("/reset", {"only": ["everything"]}),
    ],
)
def test_control_requests_that_make_no_sense_are_400_with_a_reason(call, emulator, path, body) -> None:
    answer = call.control("POST", path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert emulator.runs() == []


def test_a_run_id_is_given_once_only(emulator) -> None:
    emulator.create_run("nexio", run_id="same")
    with pytest.raises(ScriptError, match="already"):
        emulator.create_run("nexio", run_id="same")


def test_the_scripts_are_listed(call) -> None:
    listed = call.control("GET", "/scripts").json()
    assert listed == {cls.name: list(cls.scripts) for cls in default_apis()}
    assert all({"succeeded", "failed", "forever", "bare", "unknown_word"} <= set(names) for names in listed.values())


def test_the_root_says_where_everything_is(call, served) -> None:
    index = call.http.get(served.url).json()
    assert index == {
        "runops": runops.__version__,
        "providers": {name: served.base_url(name) for name in PROVIDERS},
        "control": f"{served.url}/_control",
    }


def played(seed: int) -> dict[str, Any]:
    emulator = Emulator(default_apis(), seed, now=lambda: 1_800_000_000.0)
    emulator.add_fault(kind="empty", probability=0.3)
    made = [emulator.create_run(provider, script="succeeded") for provider in PROVIDERS * 3]
    befallen = [
        emulator.take_fault(provider="nexio", action="get", method="GET", path="/", run_id=None) is not None
        for _ in range(200)
    ]
    return {"ids": made, "befallen": befallen, "runs": json.dumps(emulator.runs())}


def test_the_same_seed_gives_the_same_behaviour() -> None:
    assert played(3) == played(3)
    assert played(3)["ids"] != played(4)["ids"]
    assert played(3)["befallen"] != played(4)["befallen"]
    assert 30 < sum(played(3)["befallen"]) < 90


def test_reset_goes_back_to_the_seed(emulator) -> None:
    before = [emulator.create_run(provider) for provider in PROVIDERS]
    emulator.reset()
    assert [emulator.create_run(provider) for provider in PROVIDERS] == before


def test_reads_do_not_change_which_ids_come_next(call, emulator) -> None:
    first = emulator.create_run("onepin")
    second = emulator.create_run("onepin")
    emulator.reset()
    assert emulator.create_run("onepin") == first
    for _ in range(3):
        call.read("onepin", first)
    assert emulator.create_run("onepin") == second


def test_the_app_serves_clients_in_the_same_process() -> None:
    clock = [1_800_000_000.0]
    app = create_app(seed=1, seconds=10, now=lambda: clock[0])
    emulator: Emulator = app.state.emulator

    async def statuses() -> list[str]:
        run_id = emulator.create_run("nexio", script="degraded")
        seen: list[str] = []
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://emulator") as client:
            for _ in range(3):
                answer = await client.get(f"/nexio/api/v1/runs/{run_id}", headers={"authorization": "Bearer k"})
                seen.append(answer.json()["status"])
                clock[0] += 5
            emulator.add_fault(kind="reset")
            with pytest.raises(RuntimeError, match="needs a real connection"):
                await client.get(f"/nexio/api/v1/runs/{run_id}", headers={"authorization": "Bearer k"})
        return seen

    assert asyncio.run(statuses()) == ["queued", "processing", "degraded"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("state", "status"), [("revoked", 401), ("forbidden", 403), ("accepted", 200)])
def test_a_key_is_rotated_and_stands_nowhere(call, emulator, provider: str, state: str, status: int) -> None:
    emulator.create_run(provider, run_id="run-1")
    assert call.read(provider, "run-1", key="canary-old").status_code == 200
    said = call.control("POST", "/keys", json={"key": "canary-old", "state": state, "label": "old"})
    assert call.read(provider, "run-1", key="canary-old").status_code == status
    assert call.read(provider, "run-1", key="canary-new").status_code == 200
    key_id = said.json()["key_id"]
    ours = emulator.requests(key_id=key_id)
    assert [entry["key"] for entry in ours] == ["accepted", state]
    assert [entry["key_label"] for entry in ours] == [None, "old"]
    assert emulator.requests(key_label="old") == ours[1:]
    kept = json.dumps([emulator.requests(), call.control("GET", "/keys").json()])
    assert key_id in kept
    assert "canary" not in kept
    call.control("POST", "/reset", json={"only": ["keys"]})
    assert call.read(provider, "run-1", key="canary-old").status_code == 200


def test_a_key_of_one_provider_stays_good_at_the_others(call, emulator) -> None:
    emulator.create_run("nexio", run_id="run-1")
    emulator.create_run("nyx", run_id="run-1")
    emulator.set_key("old", "revoked", provider="nyx")
    assert [call.read(name, "run-1", key="old").status_code for name in ("nyx", "nexio")] == [401, 200]


def test_a_text_has_up_to_4096_characters(emulator) -> None:
    assert emulator.create_run("nexio", run_id="r" * 4_096) == "r" * 4_096
    for wrong in ("", "r" * 4_097, 7):
        with pytest.raises(ScriptError, match="run_id is a text of 1 to 4096 characters"):
            emulator.create_run("nexio", run_id=wrong)


def test_a_thousand_keys_are_remembered_and_one_more_is_refused(emulator) -> None:
    for number in range(1_000):
        emulator.set_key(f"key {number}", "revoked")
    emulator.set_key("key 0", "accepted")
    with pytest.raises(ScriptError, match="no more than 1000 keys"):
        emulator.set_key("one more", "revoked")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"state": "revoked"}, "key is required"),
        ({"key": "k", "state": "gone"}, "state is one of accepted, revoked, forbidden"),
        ({"key": "k", "state": "revoked", "provider": "nexxio"}, "unknown provider"),
        ({"key": "k", "state": "revoked", "label": 7}, "label"),
        ({"key": "k", "state": "revoked", "labbel": "x"}, "labbel"),
    ],
)
def test_what_makes_no_sense_of_a_key_is_refused_by_its_field(call, body: dict[str, Any], named: str) -> None:
    answer = call.control("POST", "/keys", json=body)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
