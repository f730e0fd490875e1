"""The text of a new provider's file, of its test and of its entry point, out of what was guessed and given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runops.conformance.guesses import Guess
from runops.core.declaration.address import holes_of
from runops.core.model.run import Outcome, Phase

LINE = 120


@dataclass(frozen=True, kw_only=True)
class Given:
    """What no sample shows and somebody has said.

    Args:
        name: The provider's name.
        base_url: The root of the API.
        docs: The address of its documentation.
        link: The page of a run; empty for that of the documentation.
        status, probe: Method and path.
        cancel: Method and path; empty for none.
        submit: Method and path; empty for none.
        submit_id: The keys that lead to the new run's id.
        key_header: The header of the key.
        key_before: What stands before the key in it.
        key_prefixes: What keys begin with.
    """

    name: str
    base_url: str
    docs: str
    link: str
    status: tuple[str, str]
    probe: tuple[str, str]
    cancel: tuple[str, str] | None
    submit: tuple[str, str] | None
    submit_id: tuple[str, ...]
    key_header: str
    key_before: str
    key_prefixes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name that people know, as far as it can be guessed."""
        return self.name.replace("_", " ").title()

    @property
    def constant(self) -> str:
        """The name of the declaration in its file."""
        return self.name.upper()

    @property
    def version_path(self) -> str:
        """What stands before every route: up to the version, where all have the same one."""
        routes = [self.status, self.probe, *filter(None, (self.cancel, self.submit))]
        found = [re.match(r"(/[^/{}]+)*?/v\d+(?=/)", path) for _, path in routes]
        texts = {each[0] if each else "" for each in found}
        return texts.pop() if len(texts) == 1 else ""


def declaration(guess: Guess, given: Given, *, samples: int) -> str:
    """The provider's file."""
    body = [
        f'"""{given.title}: what runops knows of its runs, written by runops new-provider from {samples} answers.',
        "",
        "What stands below a comment with CHECK is a guess: compare it with the documentation of the API, then take",
        "the comment out. ``runops conform`` says what the recorded answers do not bear out.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        *_imports(guess, given),
        "",
        "",
        *_model(guess, given),
        *(_submit(given) if given.submit else []),
        "",
        "",
        *_provider(guess, given),
    ]
    return "\n".join(body) + "\n"


def _imports(guess: Guess, given: Given) -> list[str]:
    kinds = {kind for _, kind in guess.details.values()}
    names = {"AuthScheme", "Provider", "Route", "RunBody", *kinds}
    names |= {"Moment"} if guess.times else set()
    names |= {"Call", "Submission", "json_object", "required_text"} if given.submit else set()
    if given.submit and not holes_of(given.submit[1]):
        names.discard("required_text")
    ordered = sorted(names, key=lambda name: (not name[0].isupper(), name))
    meanings = {type(meaning).__name__ for meaning in guess.words.values()}
    lines = ["from collections.abc import Mapping", "from typing import Any", ""] if given.submit else []
    # Whoever gets this file has runops as a package from elsewhere, like pydantic.
    lines += ["from pydantic import Field"] if _aliased(guess) else []
    one = f"from runops.core.declaration import {', '.join(ordered)}"
    several = ["from runops.core.declaration import (", *(f"    {name}," for name in ordered), ")"]
    return [
        *lines,
        f"from runops.core import {', '.join([*sorted(meanings), 'StateTable'])}",
        *([one] if len(one) <= LINE else several),
        "from runops.core.model.cadence import Cadence",
    ]


def _aliased(guess: Guess) -> bool:
    same = guess.run_id == "run_id" and guess.status == "status"
    pairs = [*guess.times.items(), *((name, key) for name, (key, _) in guess.details.items())]
    return not same or any(name != key for name, key in pairs)


def _model(guess: Guess, given: Given) -> list[str]:
    lines = [f"class {_class(given)}(RunBody):", f'    """{given.status[0]} {given.status[1]}."""', ""]
    if guess.details:
        lines += [
            "    # CHECK: what people may see. Texts are left out, since they may be anybody's.",
            *_tuple("    DETAILS = ", list(guess.details)),
            "",
        ]
    if guess.run_id != "run_id":
        lines += [
            "    # CHECK: the id of the run, the one that stands in its address.",
            f'    run_id: str = Field(min_length=1, validation_alias="{guess.run_id}")',
        ]
    if guess.status != "status":
        lines += [
            "    # CHECK: the word for how the run stands.",
            f'    status: str = Field(min_length=1, validation_alias="{guess.status}")',
        ]
    if guess.times:
        lines += ["    # CHECK: these times; the end must be empty until the run is over."]
    lines += [_field(name, "Moment", key) for name, key in guess.times.items()]
    if "finished_at" not in guess.times:
        lines += ["    # CHECK: no end time was found; declare finished_at: Moment if there is one."]
    lines += [_field(name, kind, key) for name, (key, kind) in guess.details.items()]
    return lines


def _class(given: Given) -> str:
    return f"{given.title.replace(' ', '')}Run"


def _tuple(before: str, names: list[str]) -> list[str]:
    one = f"{before}({', '.join(map(_text, names))}{',' if len(names) == 1 else ''})"
    return [one] if len(one) <= LINE else [f"{before}(", *(f"        {_text(name)}," for name in names), "    )"]


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _field(name: str, kind: str, key: str) -> str:
    return (
        f"    {name}: {kind} = None" if name == key else f'    {name}: {kind} = Field(None, validation_alias="{key}")'
    )


def _submit(given: Given) -> list[str]:
    assert given.submit is not None
    method, path = given.submit
    holes = holes_of(path)
    arguments = "".join(f"{hole}: str, " for hole in holes)
    ids = [f'"{hole}": required_text("{hole}", {hole})' for hole in holes]
    parents = [hole for hole in holes_of(given.status[1]) if hole != "run_id" and hole in holes]
    named = "{" + ", ".join(f'"{name}": {name}' for name in parents) + "}"
    tail = f", parents={named}" if parents else ""
    one = f"    ids = {{{', '.join(ids)}}}"
    several = ["    ids = {", *(f"        {each}," for each in ids), "    }"]
    filled = ([one] if len(one) <= LINE else several) if ids else []
    call = f'    return Call("{given.name}", _SUBMIT.fill({"ids" if ids else "{}"}), body{tail}'
    post = ")" if method == "POST" else f', method="{method}")'
    return [
        "",
        "",
        f"def submit(*, {arguments}payload: Mapping[str, Any]) -> Call:",
        '    """A new run.',
        "",
        "    Args:",
        *(f"        {hole}: Where it is started." for hole in holes),
        "        payload: The body, a JSON object.",
        "",
        "    Raises:",
        "        ConfigurationError: An argument is wrong.",
        '    """',
        *filled,
        "    # CHECK: give each field of the body an argument of its own.",
        '    body = json_object("payload", payload)',
        f"{call}{post}",
        "",
        "",
        f"_SUBMIT = {_route(given.submit)}",
    ]


def _provider(guess: Guess, given: Given) -> list[str]:
    auth = [_text(given.key_header)]
    auth += [_text(given.key_before)] if given.key_before else []
    if given.key_prefixes:
        auth += [f"key_prefixes=({', '.join(map(_text, given.key_prefixes))},)"]
    lines = [
        f"{given.constant} = Provider(",
        f'    name="{given.name}",',
        "    # CHECK: the name that people know.",
        f'    title="{given.title}",',
        f"    docs={_text(given.docs)},",
        f"    base_url={_text(given.base_url)},",
        f'    version_path="{given.version_path}",',
    ]
    if not given.key_prefixes:
        lines += ["    # CHECK: what keys begin with; name it by key_prefixes, so that no message can show one."]
    lines += [
        f"    auth=AuthScheme({', '.join(auth)}),",
        f'    key_variable="{given.constant}_API_KEY",',
        f"    body={_class(given)},",
        *_envelope(guess),
        *_states(guess),
        f"    status={_route(given.status)},",
    ]
    if given.submit:
        path = ", ".join(map(_text, given.submit_id))
        lines += [
            "    # CHECK: where the answer to a submit holds the id of the new run.",
            f"    submit=Submission(submit, run_id=({path}{',' if len(given.submit_id) == 1 else ''})),",
        ]
    if given.cancel:
        lines += [f"    cancel={_route(given.cancel)},"]
    return [
        *lines,
        f"    probe={_route(given.probe)},",
        "    # CHECK: the pace that the documentation asks for.",
        "    cadence=Cadence(first=5.0, factor=1.5, ceiling=30.0),",
        *(
            []
            if given.link
            else ["    # CHECK: the page of a run in the service's own interface; this is the documentation."]
        ),
        f"    link={_text(given.link or given.docs)},",
        ")",
    ]


def _route(route: tuple[str, str]) -> str:
    return f"Route({_text(route[0])}, {_text(route[1])})"


def _envelope(guess: Guess) -> list[str]:
    if not guess.envelope:
        return []
    keys = ", ".join(map(_text, guess.envelope))
    return [
        "    # CHECK: the keys that lead to the run in an answer about it.",
        f"    envelope=({keys}{',' if len(guess.envelope) == 1 else ''}),",
    ]


def _states(guess: Guess) -> list[str]:
    rows = [f"            {_text(word)}: {_spelled(meaning)}," for word, meaning in guess.words.items()]
    return [
        "    # CHECK: every word that the documentation has; one that is missing counts as running.",
        "    states=StateTable(",
        "        {",
        *rows,
        "        }",
        "    ),",
    ]


def _spelled(meaning: Phase | Outcome) -> str:
    return f"{type(meaning).__name__}.{meaning.name}"


def test_file(given: Given) -> str:
    """The test of the provider's file."""
    return f'''"""{given.title}'s declaration against the answers in answers/{given.name}."""

from __future__ import annotations

from pathlib import Path

from runops.conformance import conform, read_folder
from runops.core import find

ANSWERS = Path(__file__).parent / "answers" / "{given.name}"


def test_the_declaration_conforms_to_its_answers() -> None:
    """All checks of the kit."""
    report = conform(find("{given.name}_runs:{given.constant}"), ANSWERS)
    assert report.ok, "\\n".join(report.lines())


def test_the_answers_show_a_run_that_goes_on_and_one_that_is_over() -> None:
    """Without both, most checks have nothing to play."""
    answers = [each.read_as for each in read_folder(ANSWERS) if each.route == "status"]
    assert any(each.phase for each in answers)
    assert any(each.outcome for each in answers)
'''


def entry_point(given: Given) -> str:
    """What makes the provider known by its name, for the pyproject.toml of its package."""
    return f'[project.entry-points."runops.providers"]\n{given.name} = "{given.name}_runs:{given.constant}"\n'
