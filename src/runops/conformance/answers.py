"""A folder of answers: one JSON file for each, with what was asked, what came, and what it is to be read as.

A file of schema 1::

    {
      "schema": 1,
      "route": "status",
      "request": {"method": "GET", "path": "/v3/jobs/J-1", "headers": {"X-Acme-Key": "acme_stand-in"}},
      "status": 200,
      "headers": {"content-type": "application/json"},
      "body": {"job_id": "J-1", "state": "ACTIVE"},
      "read_as": {"phase": "running"}
    }

``read_as`` is what a person who has read the service's documentation says of the answer; a declaration is checked
against it. The page docs/reference/answers.md has every field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runops.core.declaration.registry import nearest
from runops.core.model.errors import ConfigurationError
from runops.core.model.run import Outcome, Phase

SCHEMA = 1
SCRIPT = "script.json"
"""The file of a folder that holds an emulator script, and no answer."""
RouteName = Literal["status", "result", "submit", "cancel", "resume", "retry", "explain", "list", "latest", "probe"]
ROUTES: tuple[str, ...] = get_args(RouteName)
ABOUT_A_RUN = ("status", "result")
"""The routes whose answers show a run."""


class _Strict(BaseModel):
    """A part of a file: what it does not know is refused, and no error quotes what stands there."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RecordedRequest(_Strict):
    """The request that an answer belongs to."""

    method: str
    path: str
    """From the root of the API, with the ids as they stood there."""
    query: dict[str, str] = Field(default_factory=dict[str, str])
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    """The header of the key, with a stand-in that begins as keys of the service begin."""
    json_body: dict[str, Any] | None = Field(None, alias="json")
    arguments: dict[str, Any] | None = None
    """Of a submit: what ``provider.call`` takes for it."""


class ListedRun(_Strict):
    """A run on a page of a list, as it is to be read."""

    run_id: str
    phase: Phase | None = None
    outcome: Outcome | None = None


class ReadAs(_Strict):
    """What an answer is to be read as. What is left out is not compared."""

    phase: Phase | None = None
    outcome: Outcome | None = None
    error: str | None = None
    """The name of a class of :mod:`runops.core.model.errors`, or of one that it derives from."""
    run_id: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    details: dict[str, Any] | None = None
    """All that people may see, and nothing else."""
    reason: str | None = None
    url: str | None = None
    parent: dict[str, str] | None = None
    """Of a list: whose runs are looked for."""
    runs: tuple[ListedRun, ...] | None = None
    """Of a list: the runs of that parent on this page, in its order."""
    more: bool | None = None
    """Of a list: whether a page comes after this one."""

    def says(self, name: str) -> bool:
        """Whether a field is given, as null too."""
        return name in self.model_fields_set


class RecordedAnswer(_Strict):
    """One file of a folder.

    Args:
        schema_version: The version of the format, ``schema`` in the file.
        route: The name of the route that was asked, such as ``status``.
        request: What was asked.
        status: The HTTP status, 200 to 599.
        headers: Those of the answer that matter.
        body: The JSON body.
        text: In its place, a body that is no JSON.
        read_as: What the answer is to be read as.
        file: The name of the file that it was read from.
    """

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(SCHEMA, alias="schema")
    route: RouteName
    request: RecordedRequest
    status: int = Field(ge=200, le=599)
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    body: Any = None
    """JSON."""
    text: str | None = None
    """In the place of ``body``, what is no JSON."""
    read_as: ReadAs
    file: str = Field("", exclude=True)
    """The name of the file it was read from."""

    @property
    def ok(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def content(self) -> bytes:
        """The body as it came."""
        if self.text is not None:
            return self.text.encode()
        return b"" if self.body is None and "body" not in self.model_fields_set else _compact(self.body)

    @property
    def meaning(self) -> Phase | Outcome | None:
        """How the run stands, as it is to be read."""
        return self.read_as.outcome or self.read_as.phase

    def to_json(self) -> str:
        """The file's text."""
        # None within a body is part of the answer, so only what was given is written.
        shown = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return json.dumps({"schema": SCHEMA, **shown}, indent=2, ensure_ascii=False) + "\n"


def _compact(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def read_folder(folder: Path | str) -> tuple[RecordedAnswer, ...]:
    """All answers of a folder, in the order of their files' names.

    Args:
        folder: The folder. A file ``script.json`` in it is no answer, and is passed over.

    Raises:
        ConfigurationError: There is none, or a file is not as it should be; names the file and the field.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ConfigurationError(f"--answers: there is no folder {str(place)!r}; runops record writes one.")
    files = sorted(path for path in place.glob("*.json") if path.name != SCRIPT)
    if not files:
        raise ConfigurationError(f"--answers: {str(place)!r} holds no .json file; runops record writes them.")
    return tuple(read_file(path) for path in files)


def read_file(path: Path) -> RecordedAnswer:
    """One answer.

    Raises:
        ConfigurationError: It is not as it should be; names the file and the field.
    """
    given = read_json(path, path.name)
    if not isinstance(given, Mapping) or "route" not in given:
        raise ConfigurationError(f"{path.name} is no answer of a folder: it needs 'route', one of {', '.join(ROUTES)}.")
    try:
        answer = RecordedAnswer.model_validate({**given, "file": path.name})
    except ValidationError as error:
        raise ConfigurationError(f"{path.name}: {_first_problem(error)}") from None
    _check_meaning(answer)
    return answer


def read_json(path: Path, called: str) -> Any:
    """What a file of JSON holds.

    Args:
        path: The file.
        called: What an error calls it.

    Raises:
        ConfigurationError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{called} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{called} is no JSON.") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, problem["loc"])) or "the file"
    near = nearest(problem["loc"][-1], _NAMES) if problem["type"] == "extra_forbidden" and problem["loc"] else ""
    return f"{field}: {problem['msg']}.{near}"


_NAMES = [
    *(info.alias or name for name, info in RecordedRequest.model_fields.items()),
    *(info.alias or name for name, info in RecordedAnswer.model_fields.items()),
    *ReadAs.model_fields,
]


def _check_meaning(answer: RecordedAnswer) -> None:
    """Refuse an answer that does not say what it is to be read as."""
    expected = answer.read_as
    if expected.outcome is Outcome.TIMED_OUT:
        raise ConfigurationError(f"{answer.file}: read_as.outcome: timed_out is an end of a wait, and of no run.")
    given = [name for name in ("phase", "outcome", "error") if getattr(expected, name) is not None]
    if answer.route in ABOUT_A_RUN or answer.route == "latest":
        if len(given) != 1:
            problem = "one of phase, outcome and error" if not given else f"only one of {' and '.join(given)}"
            raise ConfigurationError(f"{answer.file}: read_as needs {problem}: it says how the run stands.")
    elif not answer.ok and expected.error is None:
        raise ConfigurationError(
            f"{answer.file}: read_as needs 'error', such as ConflictError for a 409: the answer is a {answer.status}."
        )
    elif answer.ok and answer.route in ("submit", "retry") and expected.run_id is None and expected.error is None:
        raise ConfigurationError(f"{answer.file}: read_as needs 'run_id', the id of the run that was started.")
    elif answer.ok and answer.route == "list" and expected.runs is None and expected.error is None:
        raise ConfigurationError(f"{answer.file}: read_as needs 'runs', the runs on this page.")
