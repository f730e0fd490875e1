"""From an Airflow connection to a client, which can read the key anew. It never shows a key, and waits for nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, Self, cast

from airflow import __version__ as airflow_version
from airflow.sdk import BaseHook
from airflow.sdk.log import mask_secret

from runops.airflow import exceptions
from runops.airflow._compat import AirflowNotFoundException, connection_of
from runops.airflow._compat_traces import id_of_try
from runops.airflow.arguments import NamesChecked
from runops.airflow.base_url import base_url as base_url
from runops.airflow.bounds import AIRFLOW_SECONDS, within
from runops.airflow.crowds import own_round
from runops.airflow.exceptions import in_airflow_terms
from runops.airflow.extra import extra_of, flag, states_of, text, unusable
from runops.airflow.metrics import METER
from runops.core import PROVIDERS, AnswerError, AsyncRunClient, AuthError, Provider, RunClient, RunResult, find
from runops.core.model.codes import Code, with_code
from runops.core.model.errors import ConfigurationError
from runops.core.model.secret import Secret
from runops.core.transport.network_settings import NetworkSettings
from runops.core.transport.rate_settings import RATE_SETTINGS, secrets_of
from runops.core.waiting.options import SubmitOptions

Ask = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Has something called where Airflow can be asked, and gives what that gives."""
PROVIDER_EXTRA = "provider"
"""The key of the extra that names the provider of a connection of type ``runops``."""
STATES_EXTRA = "states"
"""The key of the extra that teaches words, such as ``{"partial": "degraded"}``."""
CLIENT_FILES = ("verify", "client_cert", "client_key")
CLIENT_EXTRAS = ("request_timeout", *RATE_SETTINGS, "max_response_bytes", *CLIENT_FILES)


class RunHook(NamesChecked, BaseHook):
    """The connection to any provider.

    The password is the API key or token. The host is the base URL where it is not the public one: with or without
    scheme, port, path prefix or version. The extra may hold ``allow_http`` (plain HTTP to other machines),
    ``request_timeout`` (seconds, 30), ``requests_per_minute`` (none), ``processes`` and ``rate_store`` (who shares
    that limit, see docs/how_to/shared_limits.md), ``max_response_bytes`` (10,000,000),
    ``states`` (words that no documentation has, such as ``{"partial": "degraded"}``; a task's own win), ``mark_runs``
    (true; false sends texts without our mark, so that a run whose submit was not answered cannot be
    proven to be ours), ``verify`` (path of the authorities that are accepted; otherwise the usual ones),
    ``client_cert`` and ``client_key`` (paths of our own certificate and its key), ``proxy``
    (``scheme://[user:password@]host:port``; otherwise what the environment says) and the provider's own options, such
    as ``workspace_id``.

    A provider from elsewhere has the connection type ``runops``; its extra names the provider, such as
    ``{"provider": "acme_runs:ACME"}``.

    :param conn_id: The connection; ``<provider>_default`` if not given.
    :param provider: A provider's name, or ``"package.module:NAME"``. If not given, the connection's extra says it.
    :param states: Words that no documentation has, and the phase or outcome that each means; they win over those of
        the connection.
    :param trace_id: Sent to a service that takes the id of a trace, where Airflow traces nothing. Default: the try's.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "runops_default"
    conn_type: ClassVar[str] = "runops"
    hook_name: ClassVar[str] = "runops"

    def __init_subclass__(cls, *, provider: str | None = None, **kwargs: Any) -> None:
        """The connection of one provider has its name and its title; its argument is ``<provider>_conn_id``.

        :param provider: The provider's name, for a class that has a connection type of its own.
        """
        super().__init_subclass__(**kwargs)
        if provider is not None:
            cls.conn_type, cls.hook_name = provider, find(provider).title
            cls.conn_name_attr, cls.default_conn_name = f"{provider}_conn_id", f"{provider}_default"

    def __init__(
        self,
        conn_id: str | None = None,
        *,
        provider: str | None = None,
        logger_name: str | None = None,
        states: Mapping[str, str] | None = None,
        trace_id: str | None = None,
    ) -> None:
        super().__init__(logger_name=logger_name)
        self._trace_id = trace_id
        self._states = states
        self._declared = None if provider is None else find(provider)
        self.conn_id = conn_id or (f"{self._declared.name}_default" if self._declared else self.default_conn_name)

    @property
    def provider(self) -> Provider:
        """The provider's declaration.

        :raises AuthError: The connection is missing, where it has to name the provider.
        :raises ConfigurationError: It names none, or one that cannot be found.
        """
        if self._declared is None:
            try:
                self._declared = named_provider(_Fields.of(self.get_connection(self.conn_id)))
            except AirflowNotFoundException:
                raise self._missing() from None
        return self._declared

    def get_conn(self) -> RunClient:
        """As :meth:`client`."""
        return self.client()

    def client(self, **settings: Any) -> RunClient:
        """A client for plain Python; a context manager.

        :param settings: Take the place of what the connection says, such as ``request_timeout`` in seconds.
        :raises AuthError: The connection is missing or has no key.
        :raises ConfigurationError: A field of the connection is unusable.
        """
        with in_airflow_terms():
            reread: dict[str, Any] = {"reread": ConnectionKey(self.conn_id)}
            return RunClient(**{**reread, **self._with_words(self._settings), **settings})

    async def async_client(self, *, ask: Ask | None = None, **settings: Any) -> AsyncRunClient:
        """A client for the triggerer; an async context manager. Takes and raises what :meth:`client` does.

        :param ask: How a loop beside a task asks Airflow: :meth:`SideLoop.in_caller`. None in the triggerer.
        :raises TriggerCrashed: Airflow did not give the connection in time.
        """
        with in_airflow_terms():
            reread = AsyncConnectionKey(self.conn_id) if ask is None else partial(ask, ConnectionKey(self.conn_id))
            read = self._read_settings() if ask is None else ask(lambda: self._settings)
            # In no local of this frame: a host that was filled in wrongly may hold the key.
            return AsyncRunClient(**cast("Any", {"reread": reread, **self._with_words(await read), **settings}))

    def _with_words(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What a client takes, with the provider as the connection and the task teach it; the task wins."""
        provider = self.provider.with_states(settings["states"]).with_states(self._states)
        telemetry = {"meter": METER, "trace_id": self._trace_id or id_of_try()}
        return {**settings, **telemetry, "states": None, "provider": provider}

    def _resume(self, run_id: str, parents: Mapping[str, str] | None) -> RunResult:
        """Have a paused run go on, for a hook whose provider can; see :meth:`RunClient.resume`."""
        with in_airflow_terms(), self.client() as client:
            return client.resume(client.ref(run_id, parents)).to_result()

    def _retry(self, run_id: str, parents: Mapping[str, str] | None, settings: SubmitOptions) -> str:
        """Have a failed run go on as a new one, for a hook whose provider can; see :meth:`RunClient.retry`."""
        with in_airflow_terms(), self.client() as client:
            return client.retry(client.ref(run_id, parents), **settings).run_id

    def test_connection(self) -> tuple[bool, str]:
        """Make a harmless read that only a good key gets through; what Airflow's Test button calls."""
        try:
            title = self.provider.title
            client = self.client()
        except (ConfigurationError, exceptions.AirflowException) as error:
            return False, str(error)
        try:
            with client:
                client.probe()
        except AuthError as error:
            return False, f"{title} can be reached, but refuses the key: {self._of_this_connection(error)}"
        except ConfigurationError as error:
            return False, str(error)
        except AnswerError as error:
            message = self._of_this_connection(error)
            if error.status is None:
                return False, f"{title} cannot be reached at {client.root}: {message}"
            return False, f"{title} answered at {client.root}, but not as expected: {message}"
        return True, f"{title} accepts the key."

    def _of_this_connection(self, error: AnswerError) -> str:
        # Airflow's button tests a copy, whose id nobody has ever seen.
        return with_code(error.text.replace(f"connection {self.conn_id!r}", "this connection"), error.error_code)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        try:
            settings = self._settings_of(self.get_connection(self.conn_id))
        except AirflowNotFoundException:
            raise self._missing() from None
        # Airflow masks the password as it is stored; this is it as it is sent, without a line break at its end.
        mask_secret(settings["token"].reveal())
        proxy = NetworkSettings.of(proxy=settings["proxy"], origin=settings["origin"]).secrets
        for secret in (*proxy, *secrets_of(settings.get("rate_store"))):
            mask_secret(secret.reveal())
        return settings

    async def _read_settings(self) -> dict[str, Any]:
        try:
            what = f"the connection {self.conn_id!r}"
            return self._settings_of(
                await self._in_own_round(within(AIRFLOW_SECONDS, what, connection_of(self.conn_id)))
            )
        except AirflowNotFoundException:
            raise self._missing() from None

    @staticmethod
    async def _in_own_round(reading: Awaitable[Any]) -> Any:
        connection = _Fields.of(await reading)
        # Thousands may have waited for it: what each makes of it must not hold the loop in one go.
        await own_round()
        return connection

    def _settings_of(self, connection: Any) -> dict[str, Any]:
        # As in client_settings, no frame keeps Airflow's own object.
        connection = _Fields.of(connection)
        if self._declared is None:
            self._declared = named_provider(connection)
        return client_settings(self._declared, connection)

    def _missing(self) -> exceptions.AuthError:
        if self._declared is None:
            kind, title = f"{self.conn_type}, whose extra names the provider,", "its service"
        elif self._declared.name in PROVIDERS:
            kind, title = self._declared.name, self._declared.title
        else:
            kind, title = self.conn_type, self._declared.title
        return exceptions.AuthError(
            f"There is no connection {self.conn_id!r} that Airflow can read: create one of type {kind} with the API "
            f"key of {title} as its password.",
            error_code=Code.MISSING_KEY,
        )


@dataclass(frozen=True, slots=True)
class ConnectionKey:
    """Reads the key of a connection as it stands now; what a client calls when its own is refused.

    :param conn_id: The connection.
    """

    conn_id: str

    def __call__(self) -> Secret:
        """The key. It is masked in the logs of this process from then on."""
        key = _Fields.of(BaseHook.get_connection(self.conn_id)).password
        mask_secret(key.reveal())
        return key


@dataclass(frozen=True, slots=True)
class AsyncConnectionKey:
    """As :class:`ConnectionKey`, without holding up the event loop. All triggers of a connection share what it gives.

    :param conn_id: The connection.
    """

    conn_id: str

    async def __call__(self) -> Secret:
        """The key."""
        return _Fields.of(await connection_of(self.conn_id)).password


@dataclass(frozen=True, slots=True)
class _Fields:
    """What is read of a connection; nothing that may be secret shows in its ``repr``."""

    conn_id: str
    password: Secret
    host: str | None = field(repr=False)
    schema: str | None
    port: int | None
    extra: Secret
    login: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, connection: Any) -> Self:
        """The fields of an Airflow connection."""
        if isinstance(connection, cls):
            return connection
        names = ("host", "schema", "port", "login")
        return cls(
            conn_id=connection.conn_id,
            password=Secret(connection.password),
            # The address of a proxy in it may hold a password.
            extra=Secret(connection.extra),
            **{name: getattr(connection, name, None) for name in names},
        )


def named_provider(connection: _Fields) -> Provider:
    """The provider that a connection of type ``runops`` names in its extra.

    :raises ConfigurationError: It names none, or one that cannot be found.
    """
    origin = f"connection {connection.conn_id!r}"
    named = text(extra_of(connection.extra, origin).get(PROVIDER_EXTRA))
    if named is None:
        raise unusable(
            f'The extra of {origin} names no provider: write {{"provider": "package.module:NAME"}}, or its name.'
        )
    return find(named)


def client_settings(provider: Provider, connection: Any) -> dict[str, Any]:
    """What a connection says, as a client takes it.

    :raises AuthError: The password is empty.
    :raises ConfigurationError: A field is unusable; the text names the connection and the field.
    """
    # Airflow's own object shows the password in its repr, so no frame keeps it.
    connection = _Fields.of(connection)
    origin = f"connection {connection.conn_id!r}"
    token = connection.password
    if not token:
        lacks = f"The {origin} has no password: put the API key or token of {provider.title} there."
        raise exceptions.AuthError(lacks, error_code=Code.MISSING_KEY)
    extra = extra_of(connection.extra, origin)
    named = text(extra.get(PROVIDER_EXTRA))
    if named is not None and find(named).name != provider.name:
        raise unusable(
            f"The extra of {origin} names the provider {named!r}, but the task is for {provider.title}: use another "
            "connection, or take it out."
        )
    settings: dict[str, Any] = {
        "token": token,
        "base_url": base_url(connection),
        "options": {name: text(extra.get(name)) for name in provider.options},
        "origin": origin,
        "address_origin": origin,
        "allow_http": flag(extra.get("allow_http")),
        "mark_runs": flag(extra.get("mark_runs", True)),
        "states": states_of(provider, extra.get(STATES_EXTRA), origin),
        "user_agent": f"airflow/{airflow_version}",
        "proxy": extra.get("proxy") or None,
        "network_origin": origin,
    }
    return settings | {name: extra[name] for name in CLIENT_EXTRAS if extra.get(name) not in (None, "", Secret(""))}


def api_settings(conn_id: str) -> dict[str, Any]:
    """What a connection to Airflow's own API server says, as :func:`runops.airflow.rest.open_api` takes it.

    :param conn_id: The connection.
    :raises ConfigurationError: A field is unusable; the text names the connection and the field.
    """
    # As in client_settings, no frame keeps Airflow's own object.
    connection = _Fields.of(BaseHook.get_connection(conn_id))
    origin = f"connection {conn_id!r}"
    url = base_url(connection)
    if url is None:
        raise unusable(f"The {origin} has no host: put the address of Airflow's API server there.")
    mask_secret(connection.password.reveal())
    extra = extra_of(connection.extra, origin)
    files = {name: extra[name] for name in CLIENT_FILES if extra.get(name)}
    return {
        "url": url,
        "token": Secret("") if connection.login else connection.password,
        "username": connection.login or None,
        "password": connection.password if connection.login else None,
        "origin": origin,
        "allow_http": flag(extra.get("allow_http")),
        "network": NetworkSettings.of(**files, proxy=Secret(extra.get("proxy")), origin=origin),
    }
