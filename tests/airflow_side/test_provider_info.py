"""What Airflow reads of us at each start: cheap, complete, and in step with the declarations."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from email.message import Message
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from runops.airflow._provider_info import get_provider_info
from runops.airflow.providers import RECORDS
from runops.core import PROVIDERS

TYPES = {kind["connection-type"]: kind for kind in get_provider_info()["connection-types"]}


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


ADDRESS = "https://docs.example.com/runops/"


def documented_at(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    """What the installed metadata say of addresses."""
    told = Message()
    told["Project-URL"] = "Changelog, https://example.com/changes"
    if address is not None:
        told["Project-URL"] = f"Documentation, {address}"
    monkeypatch.setattr("runops.airflow._provider_info.metadata.metadata", lambda name: told)


def schema(name: str) -> Any:
    return json.loads((Path(airflow.__file__).parent / name).read_text())


def test_it_is_valid_by_airflows_own_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))
    # The strict schema is that of Airflow's repository; these belong to its releases, not to a package.
    released = {"state": "ready", "source-date-epoch": 1, "versions": ["0.1.0"]}
    documented_at(monkeypatch, ADDRESS)
    jsonschema.validate({**get_provider_info(), **released}, schema("provider.yaml.schema.json"))


def test_its_documentation_is_where_the_metadata_say_and_never_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, told in ((ADDRESS, {"external-doc-url": ADDRESS}), (None, {})):
        documented_at(monkeypatch, address)
        (ours, *services) = get_provider_info()["integrations"]
        assert ours == {"integration-name": "runops", "tags": ["service"], **told}
        assert all(service["external-doc-url"] for service in services)


def test_without_an_installed_package_it_names_no_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("runops.airflow._provider_info.metadata.metadata", missing)
    info = get_provider_info()
    assert "external-doc-url" not in info["integrations"][0]
    jsonschema.validate(info, schema("provider_info.schema.json"))


def test_importing_it_loads_nothing_outside_runops_and_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import runops.airflow._provider_info as info; info.get_provider_info();"
        "print(' '.join(sorted(name.partition('.')[0] for name in set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"runops"} | set(sys.stdlib_module_names)


def test_every_provider_has_its_connection_type() -> None:
    assert set(TYPES) == {*PROVIDERS, "runops"}


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_connection_type_says_what_the_declaration_says(name: str) -> None:
    kind, provider = TYPES[name], PROVIDERS[name]
    hook = imported(kind["hook-class-name"])
    assert kind["hook-name"] == hook.hook_name == provider.title
    assert hook.conn_type == name
    assert hook.default_conn_name == f"{name}_default"
    assert hook.conn_name_attr in inspect.signature(hook).parameters
    fields = kind["conn-fields"]
    assert set(provider.options) | {
        "allow_http", "request_timeout", "requests_per_minute", "max_response_bytes", "states",
        "verify", "client_cert", "client_key", "proxy", "processes", "rate_store",
    } == set(fields)  # fmt: skip
    assert all(field["label"] and field["description"] for field in fields.values())
    form = kind["ui-field-behaviour"]
    assert set(form["relabeling"]) == {"password", "host"}
    assert provider.base_url in form["placeholders"]["host"]
    assert "password" not in form["hidden-fields"]


def test_every_named_module_and_link_exists() -> None:
    info = get_provider_info()
    for kind in ("operators", "sensors", "hooks", "triggers"):
        for group in info[kind]:
            for module in group["python-modules"]:
                import_module(module)
    titles = {imported(path)().name for path in info["extra-links"]}
    assert titles == {"Open run", *(f"Open in {provider.title}" for provider in PROVIDERS.values())}


def test_every_task_has_the_link_of_its_provider() -> None:
    import runops.airflow

    for name in runops.airflow.__all__:
        found = getattr(runops.airflow, name)
        if name.endswith(("RunSensor", "RunOperator")) and name not in ("RunSensor", "RunOperator"):
            (link,) = found.operator_extra_links
            assert link.name == f"Open in {found.conn_id_field and PROVIDERS[found.conn_id_field[:-8]].title}"


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_record_names_every_class_of_its_provider(name: str) -> None:
    module = import_module(f"runops.airflow.providers.{name}")
    own = {kind for kind, found in vars(module).items() if getattr(found, "__module__", None) == module.__name__}
    assert own == {f"{name.capitalize()}{kind}" for kind in RECORDS[name].classes}


def test_named_classes_derive_what_airflow_reads_from_their_signatures() -> None:
    from runops.airflow import NektPipelineSensor, NexioRunOperator, OnepinRunSensor

    assert OnepinRunSensor.template_fields == ("workflow_id", "run_id", "onepin_conn_id", "expect")
    assert OnepinRunSensor.named_fields == ("workflow_id",)
    assert NexioRunOperator.template_fields == (
        "engine_slug", "input", "offerings", "engine_version", "nexio_conn_id", "expect",
    )  # fmt: skip
    assert NexioRunOperator.named_fields == NexioRunOperator.template_fields[:-2]
    assert NektPipelineSensor.template_fields == (
        "pipeline", "source", "destination", "transformation", "since", "nekt_conn_id", "expect",
    )  # fmt: skip


def test_a_class_made_from_a_named_one_is_left_as_it_says() -> None:
    from runops.airflow import NexioRunOperator

    class Mine(NexioRunOperator):
        template_fields = (*NexioRunOperator.template_fields, "mine")

        def __init__(self, *, mine: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.mine = mine

    task = Mine(task_id="t", mine="m", engine_slug="e", input={})
    assert task.template_fields[-3:] == ("nexio_conn_id", "expect", "mine")
    assert (task.engine_slug, task.mine, task.named_fields) == ("e", "m", NexioRunOperator.named_fields)


def of(*modules: str, of_each: str = "") -> list[dict[str, Any]]:
    providers = [f"providers.{name}" for name, record in RECORDS.items() if of_each and of_each in record.classes]
    paths = [f"runops.airflow.{module}" for module in (*modules, *providers)]
    return [{"integration-name": "runops", "python-modules": paths}]


def test_airflow_is_shown_every_module_and_what_the_package_does() -> None:
    info = get_provider_info()
    assert info["operators"] == of("operator", "runs_operator", of_each="RunOperator")
    assert info["sensors"] == of("sensor", "discovery", "runs_sensor", of_each="RunSensor")
    assert info["hooks"] == of("hook", of_each="Hook")
    assert info["triggers"] == of("trigger", "runs_trigger", "watcher")
    assert "runops.airflow.providers.nekt" not in info["operators"][0]["python-modules"]
    assert "runops.airflow.providers.nekt" in info["sensors"][0]["python-modules"]
    assert (info["package-name"], info["name"]) == ("runops", "runops")
    assert info["description"] == (
        "Wait for runs at Nexio, Nyx, OnePin, B3OS and Nekt, and turn how they end into the right task result."
    )
    assert [each["integration-name"] for each in info["integrations"][1:]] == [each.title for each in RECORDS.values()]
    assert {tag for each in info["integrations"] for tag in each["tags"]} == {"service"}
    assert len(info["extra-links"]) == 1 + len(RECORDS)
