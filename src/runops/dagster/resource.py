"""The resources: the settings of one service, and what it can do. The wait of a step is in step/wait.py."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import dagster as dg
from pydantic import Field, field_validator

from runops.core import Call, ConfigurationError, Provider, RunRef, RunSnapshot, find
from runops.core.declaration.arguments import check_names
from runops.core.model.codes import Code
from runops.core.model.states import meaning_of
from runops.core.waiting.options import SubmitOptions, WaitSettings
from runops.dagster import keys
from runops.dagster.calls import calls as calls
from runops.dagster.calls import submits as submits
from runops.dagster.network import NetworkFields, plain
from runops.dagster.options import names_of

if TYPE_CHECKING:
    from runops.core import AsyncRunClient, RunClient


class ProviderResource(NetworkFields):
    """The settings that every service has. Use one of its named children, or :class:`RunResource`."""

    # Not empty by default: Dagster builds a resource anew from what departs from a default, and an empty variable does.
    api_key: str | None = Field(
        default=None, description="The API key or token. Use dg.EnvVar, so that it stands in no file; or api_key_file."
    )
    api_key_file: str | None = Field(
        default=None,
        description="Path of a file that holds the key instead, such as a mounted secret. It is read for each client, "
        "and again when the service refuses the key, so that a key can be rotated while steps wait.",
    )
    mark_runs: bool = Field(
        default=True,
        description="Let a submit add a mark to a text that the service shows again, so that its run is known by it.",
    )
    states: dict[str, str] = Field(
        default={},
        description="Words that no documentation has, and the phase or outcome that each means: {partial: degraded}.",
    )

    if not TYPE_CHECKING:  # a type checker knows the fields by their declarations

        def __init__(self, **values: Any) -> None:
            check_names(type(self).__name__, values, type(self).model_fields)
            # Before any frame of Dagster's holds it.
            if "api_key" in values:
                values["api_key"] = keys.hide(values["api_key"])
            keys.check_one(type(self).__name__, values.get("api_key"), values.get("api_key_file"))
            super().__init__(**values)

    @field_validator("api_key", mode="before")
    @classmethod
    def _hide_key(cls, value: object) -> object:
        return keys.hide(value)

    @property
    @abstractmethod
    def declaration(self) -> Provider:
        """The service's declaration, with the words that the resource teaches."""

    @field_validator("states")
    @classmethod
    def _outcomes_and_phases(cls, value: dict[str, str]) -> dict[str, str]:
        for word, name in value.items():
            meaning_of(word, name)
        return value

    @property
    def client_options(self) -> dict[str, str | None]:
        """The service's own settings, by the names of its declaration."""
        return {}

    def client(self, **settings: Any) -> RunClient:
        """A client with these settings, for ``with resource.client() as client: ...``.

        Args:
            settings: Settings of :class:`runops.core.RunClient` that take the place of the resource's. And ``refresh``:
                what brings the variables of this process up to date, called where a refused key is unchanged.

        Raises:
            ConfigurationError: A setting is wrong; the text names it and never holds the key.
        """
        # Only who talks to a service loads the HTTP library; a code location that is loaded does not.
        from runops.core import RunClient

        return RunClient(self.declaration, **self._client_settings(settings))

    def async_client(self, **settings: Any) -> AsyncRunClient:
        """The same for asyncio: ``async with resource.async_client() as client: ...``; raises as :meth:`client` does.

        Args:
            settings: As :meth:`client` takes them.
        """
        from runops.core import AsyncRunClient

        return AsyncRunClient(self.declaration, **self._client_settings(settings))

    def _client_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        given = {**self._own_settings(), **settings}
        refresh = given.pop("refresh", None)
        if refresh is not None and given["reread"] is not None:
            given["reread"] = keys.RefreshedKey(given["reread"], refresh)
        return given

    def _own_settings(self) -> dict[str, Any]:
        kind, path = type(self).__name__, plain(self.api_key_file)
        if path:
            token, origin, reread = keys.of_file(path, field=f"api_key_file of {kind}")
        else:
            token, origin = keys.reveal(self.api_key or "", field=f"api_key of {kind}")
            reread = keys.source_of(self.api_key or "")
        return {
            "token": token,
            **self._network_settings(self.declaration),
            "options": {name: plain(value) for name, value in self.client_options.items()},
            "mark_runs": self.mark_runs,
            "origin": origin,
            "reread": reread,
            "user_agent": f"dagster/{dg.__version__}",
        }

    def ref(self, run_id: str | RunRef, parents: Mapping[str, str] | None = None) -> RunRef:
        """The address of a run, checked.

        Args:
            run_id: The run's id as the service spells it, or a reference, which is only checked.
            parents: Further ids that the address needs.

        Raises:
            ConfigurationError: An id is missing or unusable, or the run belongs to another service.
        """
        if isinstance(run_id, RunRef):
            self.declaration.request(self.declaration.status, run_id)
            return run_id
        return self.declaration.ref(run_id, parents)

    def _submit(self, call: Call, **settings: Unpack[SubmitOptions]) -> RunRef:
        with self.client() as client:
            return client.submit(call, **settings)

    def _get(self, ref: RunRef) -> RunSnapshot:
        with self.client() as client:
            return client.get(ref)

    def _wait(self, ref: RunRef, settings: WaitSettings) -> RunSnapshot:
        caller = f"{type(self).__name__}.wait"
        check_names(caller, settings, {*inspect.signature(self.wait).parameters, *names_of(WaitSettings)})
        with self.client() as client:
            return client.wait(ref, **settings)

    def _cancel(self, ref: RunRef) -> None:
        with self.client() as client:
            client.cancel(ref)

    def _resume(self, ref: RunRef) -> RunSnapshot:
        with self.client() as client:
            return client.resume(ref)

    def _retry(self, ref: RunRef, settings: SubmitOptions) -> RunRef:
        check_names(f"{type(self).__name__}.retry", settings, names_of(SubmitOptions))
        with self.client() as client:
            return client.retry(ref, **settings)

    def _recent(self, parent: str | Mapping[str, str]) -> list[RunSnapshot]:
        with self.client() as client:
            return client.recent(parent)

    def _fetch_result(self, ref: RunRef) -> dict[str, Any]:
        with self.client() as client:
            return client.fetch_result(ref)


class NamedResource(ProviderResource):
    """The resource of one service. Its own settings are fields by the names of its declaration."""

    service: ClassVar[str]
    """The name of the declaration."""
    example: ClassVar[Mapping[str, Any]] = {}
    """What a new ``defs.yaml`` submits; empty where nothing can be submitted."""

    @property
    def declaration(self) -> Provider:
        """The service's declaration, with the words that the resource teaches."""
        return find(self.service).with_states(self.states)

    @field_validator("states")
    @classmethod
    def _no_documented_word(cls, value: dict[str, str]) -> dict[str, str]:
        if hasattr(cls, "service"):
            find(cls.service).with_states(value)
        return value

    @property
    def client_options(self) -> dict[str, str | None]:
        """The service's own settings, by the names of its declaration."""
        return {name: getattr(self, name) for name in self.declaration.options}


class PlainRunsResource(NamedResource):
    """What works with every service whose runs are found by their id alone."""

    def get(self, run_id: str | RunRef) -> RunSnapshot:
        """Read a run once.

        Raises:
            AnswerError: The read failed.
            UnknownStateError: The run is over in a state that is not documented.
        """
        return self._get(self.ref(run_id))

    def wait(self, run_id: str | RunRef, **settings: Unpack[WaitSettings]) -> RunSnapshot:
        """Wait until a run is over. In a step, prefer :func:`runops.dagster.wait_for_run`, which minds Terminate.

        Args:
            run_id: The run.
            settings: ``timeout``, ``error_budget``, ``poll_interval`` and ``max_paused``, each in seconds or as a
                timedelta: :class:`runops.core.waiting.options.WaitSettings`.

        Returns:
            The last snapshot; its outcome is ``timed_out`` when a clock ended the wait.

        Raises:
            PollingError: The error budget is used up.
            FinalError: The run cannot be read: bad key, no such run.
            UnknownStateError: The run is over in a state that is not documented.
            ConfigurationError: A setting is wrong.
        """
        return self._wait(self.ref(run_id), settings)

    def fetch_result(self, run_id: str | RunRef) -> dict[str, Any]:
        """The whole payload of a run. It may hold personal data and secrets: nothing else reads it.

        Args:
            run_id: The run.

        Raises:
            AnswerError: The read failed.
        """
        return self._fetch_result(self.ref(run_id))


class CancellableRunsResource(PlainRunsResource):
    """The same, where a run can be cancelled too."""

    def cancel(self, run_id: str | RunRef) -> None:
        """Ask the service to stop a run; one that is over is left alone.

        Args:
            run_id: The run.

        Raises:
            AnswerError: The request failed, and the run is not known to be over.
        """
        self._cancel(self.ref(run_id))


def resource_of(resources: Any, key: str) -> ProviderResource:
    """The runops resource of a context.

    Raises:
        ConfigurationError: The resource is of another kind.
    """
    resource = getattr(resources, key)
    if not isinstance(resource, ProviderResource):
        raise ConfigurationError(
            f"The resource {key!r} is a {type(resource).__name__}, not a resource of "
            "runops.dagster such as NexioResource.",
            error_code=Code.BAD_CONNECTION,
        )
    return resource


def named_resource(resources: Any, resource: ProviderResource) -> str:
    """A resource as a message begins: by its key, or by its kind where the step did not get it from Dagster.

    Args:
        resources: The resources of the step's context.
        resource: The one that is used.
    """
    key = key_of(resources, resource)
    return type(resource).__name__ if key is None else f"Resource {key!r}"


def key_of(resources: Any, resource: ProviderResource) -> str | None:
    """The key of a resource in a step's context; None where the step did not get it from Dagster."""
    return next((key for key, each in getattr(resources, "_asdict", dict)().items() if each is resource), None)
