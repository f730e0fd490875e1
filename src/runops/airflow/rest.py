"""What is read of Airflow's public REST API (v2): task instances, XComs, the task state store. It imports no Airflow.

Of each answer only the fields named here are taken. A list is read page by page; an entry that cannot be read is an
error, for what stands in it would be missed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote

from runops.core.model.codes import Code
from runops.core.model.errors import AuthError, ConfigurationError, MalformedAnswer, RunNotFound
from runops.core.model.secret import Secret
from runops.core.transport.json_api import JsonApi
from runops.core.transport.network_settings import BY_ENVIRONMENT, NetworkSettings

PATH = "/api/v2"
PAGE = 100
"""Entries of one page; a server may give fewer."""
TITLE = "Airflow"


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """A task instance, as far as it matters here."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    operator: str | None
    rendered: Mapping[str, Any] = field(repr=False)
    """What its template fields were rendered to, where Airflow still knows; the values of payloads are not there."""

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Read an entry.

        :raises MalformedAnswer: It is something else.
        """
        try:
            rendered = value.get("rendered_fields")
            return cls(
                dag_id=str(value["dag_id"]),
                run_id=str(value["dag_run_id"]),
                task_id=str(value["task_id"]),
                map_index=int(value["map_index"]),
                state=None if value["state"] is None else str(value["state"]),
                try_number=int(value.get("try_number") or 0),
                operator=value.get("operator"),
                rendered=dict(rendered) if isinstance(rendered, Mapping) else {},
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            pass
        raise MalformedAnswer("A task instance of Airflow cannot be read: is this the address of an Airflow 3?")

    @property
    def path(self) -> str:
        """Its path, without the map index, as the routes below it have it."""
        dag_id, run_id, task_id = map(_segment, (self.dag_id, self.run_id, self.task_id))
        return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"


class AirflowApi:
    """The public REST API of one Airflow.

    :param api: Sends.
    """

    def __init__(self, api: JsonApi) -> None:
        self._api = api

    def instances(self, since: datetime, operators: Iterable[str]) -> Iterator[TaskInstance]:
        """The task instances of some operators whose state has changed since a moment.

        :param since: The moment.
        :param operators: Names of operator classes.
        """
        wanted = frozenset(operators)
        query = {"updated_at_gte": since.isoformat(), "operator": sorted(wanted), "order_by": "id"}
        for entry in self._pages("/dags/~/dagRuns/~/taskInstances", "task_instances", query):
            found = TaskInstance.parse(entry)
            if found.operator in wanted:
                yield found

    def instances_in(self, states: Iterable[str]) -> Iterator[TaskInstance]:
        """All task instances in some states, of whatever operator.

        :param states: The states.
        """
        query = {"state": sorted(states), "order_by": "id"}
        for entry in self._pages("/dags/~/dagRuns/~/taskInstances", "task_instances", query):
            yield TaskInstance.parse(entry)

    def instance(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> TaskInstance | None:
        """A task instance as it is now; None where it is gone."""
        path = "/dags/{}/dagRuns/{}/taskInstances/{}".format(*map(_segment, (dag_id, run_id, task_id)))
        value = self._get(path if map_index < 0 else f"{path}/{map_index}")
        return None if value is None else TaskInstance.parse(value)

    def dag_run_state(self, dag_id: str, run_id: str) -> str | None:
        """How a DAG run stands; None where it is gone."""
        value = self._get(f"/dags/{_segment(dag_id)}/dagRuns/{_segment(run_id)}")
        return str(value["state"]) if isinstance(value, Mapping) and "state" in value else None

    def holders_of(self, key: str, since: datetime) -> Iterator[tuple[str, str, str, int]]:
        """The DAG, run, task and map index of whatever has an XCom with a key, of DAG runs since a moment."""
        query = {"xcom_key": key, "run_after_gte": since.isoformat()}
        for entry in self._pages("/dags/~/dagRuns/~/taskInstances/~/xcomEntries", "xcom_entries", query):
            if entry.get("key") == key:
                yield str(entry["dag_id"]), str(entry["run_id"]), str(entry["task_id"]), int(entry["map_index"])

    def xcom(self, ti: TaskInstance, key: str) -> dict[str, Any] | None:
        """A mapping that a task instance has left as XCom; None where there is none."""
        value = self._get(f"{ti.path}/xcomEntries/{_segment(key)}", {"map_index": ti.map_index})
        return _mapping(value)

    def stored(self, ti: TaskInstance, key: str) -> dict[str, Any] | None:
        """A mapping in the task state store; None where there is none, or no such store (Airflow below 3.3)."""
        return _mapping(self._get(f"{ti.path}/state-store/{_segment(key)}", {"map_index": ti.map_index}))

    def store(self, ti: TaskInstance, key: str, value: Any) -> None:
        """Put a value into the task state store.

        :raises AnswerError: It was not taken.
        """
        path = f"{ti.path}/state-store/{_segment(key)}?map_index={ti.map_index}"
        self._api.send("PUT", path, lambda: {"value": value})

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        try:
            return self._api.get(path, query)
        except RunNotFound:
            return None

    def _pages(self, path: str, name: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """The entries of a list; what has moved while its pages were turned may come twice."""
        offset = 0
        while True:
            page = self._api.get(path, {**query, "limit": PAGE, "offset": offset})
            entries = page.get(name) if isinstance(page, Mapping) else None
            if not isinstance(entries, Sequence):
                raise MalformedAnswer(f"{TITLE} gave no {name}: is this the address of an Airflow 3?")
            yield from entries
            offset += len(entries)
            total = page.get("total_entries")
            if not entries or not isinstance(total, int) or offset >= total:
                return


def _segment(name: str) -> str:
    """A name as one segment of a path.

    :raises MalformedAnswer: It would leave its place.
    """
    if name in (".", ".."):
        raise MalformedAnswer(f"{TITLE} names something {name!r}, which cannot stand in an address.")
    return quote(name, safe="")


def _mapping(answer: Any) -> dict[str, Any] | None:
    """The value in an answer, if it is a mapping; some versions give an XCom as the JSON text that is stored."""
    value = answer.get("value") if isinstance(answer, Mapping) else None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return dict(value) if isinstance(value, Mapping) else None


def open_api(
    url: str,
    *,
    token: Secret,
    username: str | None = None,
    password: Secret | None = None,
    origin: str,
    allow_http: bool = False,
    network: NetworkSettings = BY_ENVIRONMENT,
) -> JsonApi:
    """The API of an Airflow, with a token, or with one that a user and a password are given.

    :param url: The address of the API server, with or without ``/api/v2``.
    :param token: The token; empty where a user and a password are given.
    :param username: The user.
    :param password: The user's password.
    :param origin: Where the credential was set, for messages.
    :param allow_http: Allow plain HTTP to other machines.
    :param network: Certificates and proxy.
    :raises AuthError: There is no credential, or it is refused.
    :raises ConfigurationError: The address or the credential cannot be used.
    """
    if not token:
        if not username or not password:
            raise AuthError(
                f"{origin} holds neither a token nor a user and a password for {TITLE}.", error_code=Code.MISSING_KEY
            )
        token = _token_for(url, username, password, origin=origin, allow_http=allow_http, network=network)
    return JsonApi(
        url,
        title=TITLE,
        path=PATH,
        token=token,
        origin=origin,
        allow_http=allow_http,
        network=network,
        absent="There is no such thing",
    )


def _token_for(url: str, username: str, password: Secret, *, origin: str, **settings: Any) -> Secret:
    """What Airflow's own login gives for a user and a password."""
    sends: dict[str, Any] = {"token": None, "secrets": (password,), "origin": origin, **settings}
    with JsonApi(url, title=TITLE, path=PATH, **sends) as api:
        given = Secret(
            (
                api.send(
                    "POST",
                    "/auth/token",
                    lambda: {"username": username, "password": password.reveal()},
                    below=False,
                )
                or {}
            ).get("access_token")
        )
    if not given:
        raise ConfigurationError(
            f"The login of {TITLE} gave no token: its auth manager may have another way to it.",
            error_code=Code.BAD_CONNECTION,
        )
    return given
