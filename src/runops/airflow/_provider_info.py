"""What Airflow reads of runops at each start, as plain data. It imports nothing: every Airflow process loads it."""

_TITLES = {"nexio": "Nexio", "nyx": "Nyx", "onepin": "OnePin", "b3os": "B3OS", "nekt": "Nekt"}
_DOCS = {
    "nexio": "https://docs.usenexio.com",
    "nyx": "https://docs.fabraix.com",
    "onepin": "https://docs.onepin.ai",
    "b3os": "https://docs.b3os.org",
    "nekt": "https://docs.nekt.com",
}
_BASE_URLS = {
    "nexio": "https://api.usenexio.com",
    "nyx": "https://api.fabraix.com",
    "onepin": "https://api.onepin.ai",
    "b3os": "https://api.b3os.org",
    "nekt": "https://api.nekt.ai",
}
_KEYS = {
    "nexio": "API key",
    "nyx": "Verification token",
    "onepin": "API key",
    "b3os": "API key",
    "nekt": "API key",
}
_KEY_PLACEHOLDERS = {
    "nexio": "nx_..., of the environment whose runs these are",
    "nyx": "nyx_..., the token that Fabraix gave you",
    "onepin": "op_live_..., of the workspace whose runs these are",
    "b3os": "b3sk_..., of your organisation",
    "nekt": "From app.nekt.ai, Settings, API keys",
}
_OPTIONS = {
    "onepin": {
        "workspace_id": {
            "label": "Workspace id",
            "description": "Only for a key of several workspaces; an id that is not the key's own is refused.",
            "schema": {"type": ["string", "null"]},
        }
    },
    "b3os": {
        "org_id": {
            "label": "Organisation id",
            "description": "Only for user sessions; an API key carries its organisation.",
            "schema": {"type": ["string", "null"]},
        }
    },
}
_COMMON_FIELDS = {
    "request_timeout": {
        "label": "Request timeout (s)",
        "description": "For one whole request, the answer included. How long a run may take is said in the task.",
        "schema": {"type": ["number", "null"], "default": 30, "minimum": 0.1},
    },
    "requests_per_minute": {
        "label": "Requests per minute",
        "description": "For all waits on this connection in one process together. Empty: only the service's own limit.",
        "schema": {"type": ["number", "null"], "minimum": 0.1},
    },
    "max_response_bytes": {
        "label": "Largest answer (bytes)",
        "description": "A larger answer, decompressed, counts as a failed read.",
        "schema": {"type": ["integer", "null"], "default": 10_000_000, "minimum": 1000},
    },
    "allow_http": {
        "label": "Allow plain HTTP",
        "description": "Allow http:// to other machines. The key is sent unencrypted: only in a network you trust.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def _connection_type(name: str) -> dict:
    title = _TITLES[name]
    return {
        "connection-type": name,
        "hook-class-name": f"runops.airflow.providers.{name}.{title.capitalize()}Hook",
        "hook-name": title,
        "ui-field-behaviour": {
            # The port stays: the Test button of Airflow 3.3.1 and 3.3.2 refuses every connection that has none.
            "hidden-fields": ["login", "schema", "extra"],
            "relabeling": {"password": _KEYS[name], "host": "Base URL"},
            "placeholders": {
                "password": _KEY_PLACEHOLDERS[name],
                "host": f"Leave empty for {_BASE_URLS[name]}",
                "port": "443, or Test fails on Airflow 3.3.1 and 3.3.2",
            },
        },
        "conn-fields": {**_OPTIONS.get(name, {}), **_COMMON_FIELDS},
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


def _modules(*modules: str) -> list:
    return [{"integration-name": "runops", "python-modules": [f"runops.airflow.{module}" for module in modules]}]


def _providers(names) -> list:
    return [f"providers.{name}" for name in names]


def get_provider_info() -> dict:
    """The provider's metadata, as Airflow's schema asks for it."""
    submitting = ("nexio", "nyx", "onepin", "b3os")
    return {
        "package-name": "runops",
        "name": "runops",
        "description": (
            "Wait for runs at Nexio, Nyx, OnePin, B3OS and Nekt, and turn how they end into the right task result."
        ),
        "integrations": [
            {"integration-name": "runops", "external-doc-url": "https://pypi.org/project/runops/", "tags": ["service"]},
            *(
                {"integration-name": title, "external-doc-url": _DOCS[name], "tags": ["service"]}
                for name, title in _TITLES.items()
            ),
        ],
        "operators": _modules("operator", *_providers(submitting)),
        "sensors": _modules("sensor", "discovery", *_providers(_TITLES)),
        "hooks": _modules("hook", *_providers(_TITLES)),
        "triggers": _modules("trigger", "watcher"),
        "connection-types": [*(_connection_type(name) for name in _TITLES), _connection_type_of_others()],
        "extra-links": [
            "runops.airflow.link.RunLink",
            *(f"runops.airflow.link.{title.capitalize()}RunLink" for title in _TITLES.values()),
        ],
    }
