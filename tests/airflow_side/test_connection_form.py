"""The form in which people fill in a connection, and the lists of modules that Airflow reads: what is in them."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from runops.airflow._provider_info import get_provider_info
from runops.airflow.providers import RECORDS

INFO = get_provider_info()
TYPES = {kind["connection-type"]: kind for kind in INFO["connection-types"]}
PORT = "443, or Test fails on Airflow 3.3.1 and 3.3.2"

TAKES: dict[str, tuple[list[Any], list[Any]]] = {
    "request_timeout": ([30, 0.1, 7.5], [0.0999, 0, "30"]),
    "requests_per_minute": ([60, 0.1], [0.0999, 0, "60"]),
    "processes": ([1, 12], [0, -1, 1.5, "2"]),
    "rate_store": (["redis://h:1/0"], [1, {}]),
    "max_response_bytes": ([1000, 10**9], [999, 1000.5, "1000"]),
    "states": ([{}, {"partial": "degraded"}], ["partial", 1, []]),
    "verify": (["/ca.pem"], [True, 1]),
    "client_cert": (["/cert.pem"], [True, 1]),
    "client_key": (["/key.pem"], [True, 1]),
    "proxy": (["http://proxy:3128"], [True, 1]),
    "allow_http": ([True, False], ["true", 1]),
}
OF_ONE = {"workspace_id": "onepin", "org_id": "b3os", "provider": "runops"}


def takes(field: dict[str, Any], value: Any) -> bool:
    return jsonschema.Draft202012Validator(field["schema"]).is_valid(value)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", TAKES)
def test_a_field_of_the_form_takes_what_the_connection_takes_and_may_be_empty(name: str, kind: str) -> None:
    field, (good, bad) = TYPES[kind]["conn-fields"][name], TAKES[name]
    assert [value for value in (*good, None) if not takes(field, value)] == []
    assert [value for value in bad if takes(field, value)] == []


@pytest.mark.parametrize("name", OF_ONE)
def test_a_field_of_one_service_is_a_text_that_may_be_empty_and_stands_in_its_form_alone(name: str) -> None:
    assert [kind for kind, form in TYPES.items() if name in form["conn-fields"]] == [OF_ONE[name]]
    field = TYPES[OF_ONE[name]]["conn-fields"][name]
    assert [takes(field, value) for value in ("text", None, 1, {})] == [True, True, False, False]
    assert set(field) == {"label", "description", "schema"}


def test_the_form_begins_with_the_values_that_hold_where_nothing_is_said() -> None:
    for form in TYPES.values():
        begun = {
            name: field["schema"]["default"]
            for name, field in form["conn-fields"].items()
            if "default" in field["schema"]
        }
        assert begun == {"request_timeout": 30, "max_response_bytes": 10_000_000, "allow_http": False}


def test_what_may_hold_a_password_is_hidden_in_the_form() -> None:
    for form in TYPES.values():
        hidden = {
            name: field["schema"]["format"]
            for name, field in form["conn-fields"].items()
            if "format" in field["schema"]
        }
        assert hidden == {"rate_store": "password", "proxy": "password"}


LABELS = {
    "request_timeout": "Request timeout (s)", "requests_per_minute": "Requests per minute", "processes": "Processes",
    "rate_store": "Store of the limit", "max_response_bytes": "Largest answer (bytes)", "states": "Words",
    "verify": "Authorities (path)", "client_cert": "Client certificate (path)", "client_key": "Client key (path)",
    "proxy": "Proxy", "allow_http": "Allow plain HTTP", "workspace_id": "Workspace id", "org_id": "Organisation id",
    "provider": "Provider",
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_each_field_has_its_label(kind: str) -> None:
    fields = TYPES[kind]["conn-fields"]
    assert {name: field["label"] for name, field in fields.items()} == {name: LABELS[name] for name in fields}


@pytest.mark.parametrize("kind", TYPES)
def test_each_number_has_the_smallest_value_that_a_client_takes(kind: str) -> None:
    fields = TYPES[kind]["conn-fields"]
    smallest = {name: field["schema"]["minimum"] for name, field in fields.items() if "minimum" in field["schema"]}
    assert smallest == {
        "request_timeout": 0.1, "requests_per_minute": 0.1, "processes": 1, "max_response_bytes": 1000,
    }  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_the_form_of_a_service_hides_what_it_has_no_use_for_and_names_its_key(name: str) -> None:
    record, form = RECORDS[name], TYPES[name]["ui-field-behaviour"]
    assert form == {
        "hidden-fields": ["login", "schema", "extra"],
        "relabeling": {"password": record.key, "host": "Base URL"},
        "placeholders": {
            "password": record.key_placeholder, "host": f"Leave empty for {record.base_url}", "port": PORT,
        },
    }  # fmt: skip
    assert TYPES[name]["hook-class-name"] == f"runops.airflow.providers.{name}.{name.capitalize()}Hook"


def test_the_form_for_other_services_shows_the_extra_that_names_them() -> None:
    form = TYPES["runops"]
    assert (form["hook-class-name"], form["hook-name"]) == ("runops.airflow.hook.RunHook", "runops")
    assert form["ui-field-behaviour"] == {
        "hidden-fields": ["login", "schema"],
        "relabeling": {"password": "API key", "host": "Base URL"},
        "placeholders": {
            "password": "The API key or token of the service", "host": "Leave empty for the public API", "port": PORT,
            "extra": '{"provider": "acme_runs:ACME"}',
        },
    }  # fmt: skip


WORDS = {
    "nexio": ("Nexio", "API key", "https://docs.usenexio.com", "nx_..."),
    "nyx": ("Nyx", "Verification token", "https://docs.fabraix.com", "nyx_..."),
    "onepin": ("OnePin", "API key", "https://docs.onepin.ai", "op_live_..."),
    "b3os": ("B3OS", "API key", "https://docs.b3os.org", "b3sk_..."),
    "nekt": ("Nekt", "API key", "https://docs.nekt.com", "From app.nekt.ai"),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_service_is_named_with_its_key_and_where_it_is_documented(name: str) -> None:
    title, key, docs, placeholder = WORDS[name]
    record = RECORDS[name]
    assert (record.title, record.key, record.docs, record.key_placeholder.split(",")[0]) == (
        title,
        key,
        docs,
        placeholder,
    )
    assert {"integration-name": title, "external-doc-url": docs, "tags": ["service"]} in INFO["integrations"]


ALL = ["nexio", "nyx", "onepin", "b3os", "nekt"]
MODULES = {
    "operators": (["operator", "runs_operator"], ALL[:-1]),
    "sensors": (["sensor", "discovery", "runs_sensor"], ALL),
    "hooks": (["hook"], ALL),
    "triggers": (["trigger", "runs_trigger", "watcher"], []),
}


@pytest.mark.parametrize("kind", MODULES)
def test_the_modules_of_a_kind_are_those_that_have_classes_of_it(kind: str) -> None:
    own, providers = MODULES[kind]
    paths = [f"runops.airflow.{name}" for name in (*own, *(f"providers.{name}" for name in providers))]
    assert INFO[kind] == [{"integration-name": "runops", "python-modules": paths}]


def test_the_links_of_tasks_are_all_named() -> None:
    names = ["RunLink", "NexioRunLink", "NyxRunLink", "OnepinRunLink", "B3osRunLink", "NektRunLink"]
    assert INFO["extra-links"] == [f"runops.airflow.link.{name}" for name in names]
    assert (INFO["package-name"], INFO["name"]) == ("runops", "runops")
    assert INFO["description"].startswith("Wait for runs at Nexio, Nyx, OnePin, B3OS and Nekt, and turn how they end")
