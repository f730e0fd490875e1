"""What is asked of Airflow's REST API, what is read of its answers, and every field of a connection."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from airflow.sdk import BaseHook

from runops.airflow import NexioHook, OnepinHook, RunHook, rest
from runops.airflow._compat import AirflowNotFoundException
from runops.airflow.exceptions import AuthError as AirflowAuthError
from runops.airflow.exceptions import ConfigurationError as AirflowConfigurationError
from runops.airflow.hook import api_settings, client_settings
from runops.airflow.rest import AirflowApi, TaskInstance, open_api
from runops.core import Outcome, find
from runops.core.model.codes import Code
from runops.core.model.errors import AuthError, ConfigurationError, MalformedAnswer, RunNotFound
from runops.core.model.secret import Secret

SINCE = datetime(2026, 5, 20, tzinfo=UTC)
LIST = "/dags/~/dagRuns/~/taskInstances"
BODY = {
    "dag_id": "d/1", "dag_run_id": "r+2", "task_id": "t", "map_index": 4, "state": "failed", "try_number": 3,
    "operator": "NyxRunOperator", "rendered_fields": {"run_id": "given"},
}  # fmt: skip
TI = TaskInstance.parse(BODY)
PATH = "/dags/d%2F1/dagRuns/r%2B2/taskInstances/t"


class Json:
    """The API as it is sent to: answers by path, and what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = answers
        self.asked: list[Any] = []

    def get(self, path: str, query: Any = None) -> Any:
        self.asked.append((path, query))
        answer = self.answers.get(path.rpartition("/")[2])
        if answer is None:
            raise RunNotFound("none")
        return answer(query) if callable(answer) else answer

    def send(self, method: str, path: str, body: Callable[[], Any]) -> None:
        self.asked.append((method, path, body()))


def api(answers: Json) -> AirflowApi:
    given: Any = answers
    return AirflowApi(given)


def test_a_task_instance_has_the_fields_of_its_entry() -> None:
    assert (TI.dag_id, TI.run_id, TI.task_id, TI.map_index, TI.state, TI.try_number) == (
        "d/1",
        "r+2",
        "t",
        4,
        "failed",
        3,
    )
    assert (TI.operator, TI.rendered, TI.path) == ("NyxRunOperator", {"run_id": "given"}, PATH)
    assert "given" not in repr(TI)
    bare = TaskInstance.parse(
        {name: BODY[name] for name in ("dag_id", "dag_run_id", "task_id", "map_index")} | {"state": None}
    )
    assert (bare.state, bare.try_number, bare.operator, bare.rendered) == (None, 0, None, {})


@pytest.mark.parametrize("name", ["dag_id", "dag_run_id", "task_id", "map_index", "state"])
def test_an_entry_that_lacks_a_field_is_no_task_instance(name: str) -> None:
    for value in ({key: each for key, each in BODY.items() if key != name}, "text", None, {**BODY, "map_index": "x"}):
        with pytest.raises(MalformedAnswer, match="A task instance of Airflow cannot be read"):
            TaskInstance.parse(value)


def test_the_lists_of_task_instances_are_asked_for_with_what_is_wanted() -> None:
    answers = Json(taskInstances={"task_instances": [BODY, {**BODY, "operator": "Other"}], "total_entries": 2})
    assert list(api(answers).instances(SINCE, ["RunOperator", "NyxRunOperator"])) == [TI]
    assert len(list(api(answers).instances_in(["running", "deferred"]))) == 2
    page = {"order_by": "id", "limit": 100, "offset": 0}
    assert answers.asked == [
        (LIST, {"updated_at_gte": "2026-05-20T00:00:00+00:00", "operator": ["NyxRunOperator", "RunOperator"], **page}),
        (LIST, {"state": ["deferred", "running"], **page}),
    ]


def test_the_holders_of_an_xcom_are_those_with_that_key() -> None:
    entry = {"key": "k", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": "2"}
    answers = Json(xcomEntries={"xcom_entries": [entry, {**entry, "key": "kk"}], "total_entries": 2})
    assert list(api(answers).holders_of("k", SINCE)) == [("d", "r", "t", 2)]
    assert answers.asked == [
        (f"{LIST}/~/xcomEntries", {"xcom_key": "k", "run_after_gte": SINCE.isoformat(), "limit": 100, "offset": 0})
    ]


@pytest.mark.parametrize(
    ("sizes", "total", "offsets"),
    [
        ((3,), 3, [0]),
        ((2, 1), 3, [0, 2]),
        ((2, 0), 3, [0, 2]),
        ((2,), None, [0]),
        ((0,), 0, [0]),
        ((1, 1, 2), 4, [0, 1, 2]),
    ],
)
def test_pages_are_turned_until_all_were_seen_or_none_comes(
    sizes: tuple[int, ...], total: int | None, offsets: list[int]
) -> None:
    left = iter(sizes)
    answers = Json(taskInstances=lambda _: {"task_instances": [BODY] * next(left), "total_entries": total})
    assert len(list(api(answers).instances_in(["running"]))) == sum(sizes)
    assert [query["offset"] for _, query in answers.asked] == offsets


@pytest.mark.parametrize("answer", [[], "text", {}, {"task_instances": None}, {"task_instances": 3}])
def test_an_answer_without_its_list_is_that_of_something_else(answer: Any) -> None:
    with pytest.raises(MalformedAnswer, match="Airflow gave no task_instances: is this the address of an Airflow 3"):
        list(api(Json(taskInstances=answer)).instances_in(["running"]))


@pytest.mark.parametrize(("index", "path"), [(-1, PATH), (0, f"{PATH}/0"), (4, f"{PATH}/4")])
def test_one_task_instance_is_asked_for_by_its_index_where_it_has_one(index: int, path: str) -> None:
    answers = Json(**{path.rpartition("/")[2]: BODY})
    assert api(answers).instance("d/1", "r+2", "t", index) == TI
    assert answers.asked == [(path, None)]
    assert api(Json()).instance("d/1", "r+2", "t", index) is None


@pytest.mark.parametrize(("answer", "state"), [({"state": "failed"}, "failed"), ({}, None), ("text", None)])
def test_the_state_of_a_dag_run_is_read_by_its_ids(answer: Any, state: str | None) -> None:
    answers = Json(**{"r%2B2": answer})
    assert api(answers).dag_run_state("d/1", "r+2") == state
    assert answers.asked == [("/dags/d%2F1/dagRuns/r%2B2", None)]
    assert api(Json()).dag_run_state("d", "r") is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"value": {"a": 1}}, {"a": 1}), ({"value": '{"a": 1}'}, {"a": 1}),
        ({"value": "text"}, None), ({"value": "[1]"}, None),
        ({"value": 3}, None), ({}, None), ([], None),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_task_has_left_is_a_mapping_or_the_text_of_one(value: Any, read: Any) -> None:
    answers = Json(**{"k%2F": value})
    assert (api(answers).xcom(TI, "k/"), api(answers).stored(TI, "k/")) == (read, read)
    query = {"map_index": 4}
    assert answers.asked == [(f"{PATH}/xcomEntries/k%2F", query), (f"{PATH}/state-store/k%2F", query)]
    assert (api(Json()).xcom(TI, "k"), api(Json()).stored(TI, "k")) == (None, None)


def test_a_value_is_put_into_the_store_of_the_task_instance() -> None:
    answers = Json()
    api(answers).store(TI, "k", {"a": 1})
    assert answers.asked == [("PUT", f"{PATH}/state-store/k?map_index=4", {"value": {"a": 1}})]


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_leads_elsewhere_is_named_in_the_refusal(name: str) -> None:
    with pytest.raises(MalformedAnswer, match="Airflow names something '"):
        api(Json()).dag_run_state(name, "r")


# --- how it is opened ---


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What is opened, and the login that answers with a token."""
    made: list[tuple[str, dict[str, Any]]] = []

    class Login:
        given: ClassVar[Any] = {"access_token": "a-token"}

        def __init__(self, url: str, **settings: Any) -> None:
            made.append((url, settings))

        def __enter__(self) -> Login:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def send(self, method: str, path: str, body: Any, *, below: bool) -> Any:
            made.append((f"{method} {path}", {"body": body(), "below": below}))
            return Login.given

    monkeypatch.setattr(rest, "JsonApi", Login)
    return made


URL = "https://airflow.example.com"
SENT = {"title": "Airflow", "path": "/api/v2", "origin": "connection 'c'", "allow_http": True}


def test_with_a_token_nobody_logs_in(opened: list[tuple[str, dict[str, Any]]]) -> None:
    network: Any = object()
    open_api(URL, token=Secret("t"), origin="connection 'c'", allow_http=True, network=network)
    ((url, settings),) = opened
    assert settings.pop("token").reveal() == "t"
    assert (url, settings) == (URL, {**SENT, "network": network, "absent": "There is no such thing"})


def test_a_user_and_a_password_are_changed_for_a_token_at_the_same_address(
    opened: list[tuple[str, dict[str, Any]]],
) -> None:
    network: Any = object()
    user: Any = {"username": "ada", "password": Secret("pw")}
    open_api(URL, token=Secret(""), **user, origin="connection 'c'", allow_http=True, network=network)
    (login, first), post, (url, then) = opened
    assert (first.pop("token"), [each.reveal() for each in first.pop("secrets")]) == (None, ["pw"])
    assert (login, first) == (URL, {**SENT, "network": network})
    assert post == ("POST /auth/token", {"body": {"username": "ada", "password": "pw"}, "below": False})
    assert (url, then["token"].reveal()) == (URL, "a-token")


@pytest.mark.parametrize("answer", [None, {}, {"access_token": ""}])
def test_a_login_that_gives_no_token_says_so(answer: Any, opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest.JsonApi, "given", answer)
    with pytest.raises(ConfigurationError, match="The login of Airflow gave no token") as raised:
        open_api(URL, token=Secret(""), username="ada", password=Secret("pw"), origin="c")
    assert raised.value.error_code is Code.BAD_CONNECTION


@pytest.mark.parametrize(
    "user", [{}, {"username": "ada"}, {"password": Secret("pw")}, {"username": "", "password": Secret("pw")}]
)
def test_without_any_credential_nothing_is_sent(user: dict[str, Any], opened: list[Any]) -> None:
    with pytest.raises(AuthError, match="c holds neither a token nor a user and a password for Airflow") as raised:
        open_api(URL, token=Secret(""), **user, origin="c")
    assert raised.value.error_code is Code.MISSING_KEY
    assert opened == []


# --- a connection to Airflow itself ---


def test_a_connection_with_a_login_is_a_user_and_a_password(connect: Any) -> None:
    connect("airflow_api", "http", host="h", login="ada", password="pw", extra={"allow_http": "yes"})
    made = api_settings("airflow_api")
    assert (made["url"], made["origin"], made["allow_http"]) == ("https://h", "connection 'airflow_api'", True)
    assert (made["token"].reveal(), made["username"], made["password"].reveal()) == ("", "ada", "pw")


def test_a_connection_without_one_holds_a_token(connect: Any) -> None:
    connect("airflow_api", "http", host="h", password="a-token")
    made = api_settings("airflow_api")
    assert (made["token"].reveal(), made["username"], made["password"]) == ("a-token", None, None)
    assert made["allow_http"] is False
    connect("airflow_api", "http", password="a-token")
    with pytest.raises(ConfigurationError, match=r"connection 'airflow_api' has no host: put the address") as raised:
        api_settings("airflow_api")
    assert raised.value.error_code is Code.BAD_CONNECTION


def test_a_connection_to_airflow_has_the_proxy_and_the_files_of_its_extra(connect: Any) -> None:
    connect("airflow_api", "http", host="h", extra={"proxy": "http://u:pw@proxy:3128"})
    made = api_settings("airflow_api")
    assert any("pw" in secret.reveal() for secret in made["network"].secrets)
    assert "pw" not in repr(made)
    for extra in ({"proxy": "ftp://proxy"}, {"verify": "/no/such/file"}, {"client_cert": "/no/such/file"}):
        connect("airflow_api", "http", host="127.0.0.1", port=9, extra=extra)
        with pytest.raises(ConfigurationError, match="connection 'airflow_api'"):
            read_version("airflow_api")


def read_version(conn_id: str) -> Any:
    with open_api(**api_settings(conn_id)) as api:
        return api.get("/version")


# --- a connection to a service ---


def settings(connect: Any, provider: str = "onepin", **fields: Any) -> dict[str, Any]:
    from airflow.sdk import BaseHook

    connect("other", provider, **fields)
    return client_settings(find(provider), BaseHook.get_connection("other"))


def test_a_connection_that_says_nothing_leaves_what_clients_do_by_themselves(connect: Any, key: str) -> None:
    made = settings(connect)
    assert made.pop("token").reveal() == key
    assert made.pop("user_agent").startswith("airflow/3.")
    origin = "connection 'other'"
    assert made == {
        "base_url": None, "options": {"workspace_id": None}, "origin": origin, "address_origin": origin,
        "network_origin": origin, "allow_http": False, "mark_runs": True, "states": None, "proxy": None,
    }  # fmt: skip


EXTRAS: dict[str, tuple[Any, Any]] = {
    "request_timeout": (7, 7), "requests_per_minute": (60, 60), "processes": (3, 3), "max_response_bytes": (5000, 5000),
    "verify": ("/ca.pem", "/ca.pem"), "client_cert": ("/c.pem", "/c.pem"), "client_key": ("/k.pem", "/k.pem"),
    "mark_runs": ("no", False), "allow_http": ("on", True), "states": ({"x": "degraded"}, {"x": "degraded"}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTRAS)
def test_a_field_of_the_extra_reaches_the_client_and_an_empty_one_does_not(name: str, connect: Any) -> None:
    value, reached = EXTRAS[name]
    assert settings(connect, extra={name: value})[name] == reached
    for empty in ("", None):
        left, never = settings(connect, extra={name: empty}), settings(connect)
        assert left.get(name) in (never.get(name), False)


@pytest.mark.parametrize("name", ["proxy", "rate_store"])
def test_what_may_hold_a_password_reaches_the_client_hidden(name: str, connect: Any) -> None:
    made = settings(connect, extra={name: "redis://u:pw@h"})
    assert (made[name].reveal(), "pw" in repr(made)) == ("redis://u:pw@h", False)
    assert not settings(connect, extra={name: ""}).get(name)


@pytest.mark.parametrize(
    ("value", "yes"),
    [
        ("1", True),
        (" True ", True),
        ("yes", True),
        ("ON", True),
        ("0", False),
        ("no", False),
        ("", False),
        (1, True),
        (0, False),
    ],
)
def test_a_yes_may_be_written_in_many_ways(value: Any, yes: bool, connect: Any) -> None:
    assert settings(connect, extra={"allow_http": value})["allow_http"] is yes


@pytest.mark.parametrize("value", ["", None])
def test_words_that_are_left_empty_teach_nothing(value: str | None, connect: Any) -> None:
    assert not settings(connect, extra={"states": value}).get("states")


UNUSABLE: dict[str, tuple[dict[str, Any], str, Code]] = {
    "no key": (
        {"password": ""}, r"The connection 'other' has no password: put the API key or token of OnePin there\.",
        Code.MISSING_KEY,
    ),
    "no JSON": ({"extra": "["}, r"The extra of connection 'other' is no JSON object\.", Code.BAD_CONNECTION),
    "words that are none": (
        {"extra": {"states": "x"}}, r"The extra of connection 'other': states is no JSON object of words\.",
        Code.BAD_CONNECTION,
    ),
    "words that teach wrongly": (
        {"extra": {"states": {"x": "none"}}}, r"The extra of connection 'other': ", Code.BAD_CONNECTION,
    ),
    "another provider's": (
        {"extra": {"provider": "nyx"}},
        r"The extra of connection 'other' names the provider 'nyx', but the task is for OnePin: use another",
        Code.BAD_CONNECTION,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_connection_that_cannot_be_used_says_what_is_wrong_under_its_code(what: str, connect: Any) -> None:
    fields, words, code = UNUSABLE[what]
    connect("other", "onepin", **fields)
    if not airflow_reads(
        "other"
    ):  # Older ones read no connection whose extra is no JSON, and go on as if there were none.
        assert what == "no JSON"
        words, code = (
            "There is no connection 'other' that Airflow can read: create one of type onepin",
            Code.MISSING_KEY,
        )
    for make in (OnepinHook("other").client, lambda: client_of(OnepinHook("other"))):
        with pytest.raises((AirflowAuthError, AirflowConfigurationError), match=words) as raised:
            make()
        assert raised.value.error_code is code


def airflow_reads(conn_id: str) -> bool:
    try:
        BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return False
    return True


def client_of(hook: RunHook) -> Any:
    import asyncio

    return asyncio.run(hook.async_client())


MISSING = {
    "a shipped one": (lambda: NexioHook("gone"), "create one of type nexio with the API key of Nexio as its password"),
    "any": (
        lambda: RunHook("gone"),
        "create one of type runops, whose extra names the provider, with the API key of its service as its password",
    ),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_connection_that_is_missing_is_described(what: str) -> None:
    make, words = MISSING[what]
    for use in (make().client, lambda: client_of(make())):
        with pytest.raises(
            AirflowAuthError, match=f"There is no connection 'gone' that Airflow can read: {words}"
        ) as raised:
            use()
        assert raised.value.error_code is Code.MISSING_KEY


def test_a_connection_of_any_service_must_name_it(connect: Any, served: Any) -> None:
    connect("other", "runops", host=served.base_url("nexio"))
    with pytest.raises(AirflowConfigurationError, match="The extra of connection 'other' names no provider") as raised:
        RunHook("other").client()
    assert raised.value.error_code is Code.BAD_CONNECTION
    connect("other", "runops", host=served.base_url("nexio"), extra={"provider": "nexio"})
    hook = RunHook("other")
    assert (hook.provider.name, hook.test_connection()) == ("nexio", (True, "Nexio accepts the key."))
    with pytest.raises(AirflowAuthError, match="There is no connection 'gone'"):
        _ = RunHook("gone").provider
    assert RunHook().conn_id == "runops_default"
    assert RunHook(provider="nyx").conn_id == "nyx_default"


def test_the_words_of_a_task_win_over_those_of_its_connection(connect: Any) -> None:
    connect("other", "nexio", extra={"states": {"x": "failed", "y": "failed"}, "request_timeout": 9})
    hook = RunHook("other", provider="nexio", states={"x": "degraded"})
    with hook.client(request_timeout=3.0) as client:
        states = client.provider.states
    assert [states.read(word).meaning for word in ("x", "y")] == [Outcome.DEGRADED, Outcome.FAILED]
