"""What Airflow reads of runops at each start, as plain data. It loads no host: every Airflow process imports it."""

from importlib import metadata

from runops.airflow.providers import RECORDS

_COMMON_FIELDS = {
    "request_timeout": {
        "label": "Request timeout (s)",
        "description": "For one whole request, the answer included. How long a run may take is said in the task.",
        "schema": {"type": ["number", "null"], "default": 30, "minimum": 0.1},
    },
    "requests_per_minute": {
        "label": "Requests per minute",
        "description": "For all waits on this connection in one process together, or in all with a store or processes. "
        "Empty: only the service's own limit.",
        "schema": {"type": ["number", "null"], "minimum": 0.1},
    },
    "processes": {
        "label": "Processes",
        "description": "How many send with this key: triggerers, tasks at once, Dagster steps. Each keeps to the limit "
        "divided by it.",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "rate_store": {
        "label": "Store of the limit",
        "description": "redis://user:password@host:port/db, through which all processes share the limit. Needs the "
        "extra redis. While it is lost, each keeps to the limit divided by Processes.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "max_response_bytes": {
        "label": "Largest answer (bytes)",
        "description": "A larger answer, decompressed, counts as a failed read.",
        "schema": {"type": ["integer", "null"], "default": 10_000_000, "minimum": 1000},
    },
    "states": {
        "label": "Words",
        "description": "What words mean that no documentation has, as JSON: phases or outcomes by word.",
        "schema": {"type": ["object", "null"]},
    },
    "verify": {
        "label": "Authorities (path)",
        "description": "A PEM file with the authorities that are accepted, and no others. Empty: the usual ones.",
        "schema": {"type": ["string", "null"]},
    },
    "client_cert": {
        "label": "Client certificate (path)",
        "description": "A PEM file, for a service that asks for one. It is read where tasks and triggers run.",
        "schema": {"type": ["string", "null"]},
    },
    "client_key": {
        "label": "Client key (path)",
        "description": "A PEM file without a password. Empty: the key is in the file of the certificate.",
        "schema": {"type": ["string", "null"]},
    },
    "proxy": {
        "label": "Proxy",
        "description": "scheme://user:password@host:port. Empty: what HTTPS_PROXY and NO_PROXY say.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "allow_http": {
        "label": "Allow plain HTTP",
        "description": "Allow http:// to other machines. The key is sent unencrypted: only in a network you trust.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def _connection_type(name: str) -> dict:
    record = RECORDS[name]
    return {
        "connection-type": name,
        "hook-class-name": f"runops.airflow.providers.{name}.{name.capitalize()}Hook",
        "hook-name": record.title,
        "ui-field-behaviour": {
            # The port stays: the Test button of Airflow 3.3.1 and 3.3.2 refuses every connection that has none.
            "hidden-fields": ["login", "schema", "extra"],
            "relabeling": {"password": record.key, "host": "Base URL"},
            "placeholders": {
                "password": record.key_placeholder,
                "host": f"Leave empty for {record.base_url}",
                "port": "443, or Test fails on Airflow 3.3.1 and 3.3.2",
            },
        },
        "conn-fields": {**record.options, **_COMMON_FIELDS},
    }


def _connection_type_of_others() -> dict:
    """The connection of a provider from elsewhere, which its extra names."""
    named = {
        "label": "Provider",
        "description": "The name or import path of its declaration, such as acme_runs:ACME.",
        "schema": {"type": ["string", "null"]},
    }
    return {
        "connection-type": "runops",
        "hook-class-name": "runops.airflow.hook.RunHook",
        "hook-name": "runops",
        "ui-field-behaviour": {
            "hidden-fields": ["login", "schema"],
            "relabeling": {"password": "API key", "host": "Base URL"},
            "placeholders": {
                "password": "The API key or token of the service",
                "host": "Leave empty for the public API",
                "port": "443, or Test fails on Airflow 3.3.1 and 3.3.2",
                "extra": '{"provider": "acme_runs:ACME"}',
            },
        },
        "conn-fields": {"provider": named, **_COMMON_FIELDS},
    }


def _modules(*modules: str, named: str = "") -> list:
    """Modules of runops, and those of the providers that have a class of the kind that is named."""
    providers = [f"providers.{name}" for name, record in RECORDS.items() if named and named in record.classes]
    paths = [f"runops.airflow.{module}" for module in (*modules, *providers)]
    return [{"integration-name": "runops", "python-modules": paths}]


def _documentation() -> dict:
    """Where runops is documented, as its own metadata says; nothing where that names no place.

    Airflow reads ``documentation-url`` from there by itself, and asks for no ``external-doc-url``.
    """
    try:
        urls = metadata.metadata("runops").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        urls = []
    found = dict(url.split(", ", 1) for url in urls)
    return {"external-doc-url": found["Documentation"]} if "Documentation" in found else {}


def get_provider_info() -> dict:
    """The provider's metadata, as Airflow's schema asks for it."""
    titles = [record.title for record in RECORDS.values()]
    return {
        "package-name": "runops",
        "name": "runops",
        "description": (
            f"Wait for runs at {', '.join(titles[:-1])} and {titles[-1]}, and turn how they end into the right task "
            "result."
        ),
        "integrations": [
            {"integration-name": "runops", **_documentation(), "tags": ["service"]},
            *(
                {"integration-name": record.title, "external-doc-url": record.docs, "tags": ["service"]}
                for record in RECORDS.values()
            ),
        ],
        "operators": _modules("operator", "runs_operator", named="RunOperator"),
        "sensors": _modules("sensor", "discovery", "runs_sensor", named="RunSensor"),
        "hooks": _modules("hook", named="Hook"),
        "triggers": _modules("trigger", "runs_trigger", "watcher"),
        "connection-types": [*(_connection_type(name) for name in RECORDS), _connection_type_of_others()],
        "extra-links": [
            "runops.airflow.link.RunLink",
            *(f"runops.airflow.link.{name.capitalize()}RunLink" for name in RECORDS),
        ],
    }
