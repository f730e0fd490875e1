"""What ``conform`` accepts, and the other commands for whoever writes a provider. It imports nothing of the core."""

from __future__ import annotations

import argparse
from typing import Any

CONFORM = """\
exit codes: 0 it conforms   1 something is wrong   2 usage, such as a folder that cannot be read
What is unproven, since no answer of the folder shows it, is listed and leaves the exit code as it is.
"""


SAVED = "a body of the status route that was saved, in order; - for standard input; may be repeated"
RECORD = """\
It keeps documented words, the shape, and how far apart times are. Ids, texts, numbers, flags and unknown keys become
stand-ins, and the key is written nowhere. script.json is what POST /_control/runs of the emulator takes.

exit codes: 0 it is written   2 usage   4 an answer could not be had
"""


NEW = """\
It writes acme_runs.py, test_acme_runs.py, answers/acme/ and acme_entry_point.toml, and overwrites nothing. Each guess
is marked by a comment with CHECK. No route and no address is guessed. Of the samples only shapes and words are written.

exit codes: 0 it is written   2 usage, such as a word whose meaning cannot be guessed
"""


def add_kit(commands: Any) -> None:
    """The commands.

    Args:
        commands: The subparsers of the whole command line.
    """
    _add_conform(commands)
    _add_record(commands)
    _add_new_provider(commands)


def _add_conform(commands: Any) -> None:
    conform = commands.add_parser(
        "conform",
        help="check a provider's declaration against a folder of recorded answers",
        description="Asks nothing outside of this machine. Modules are looked for in the current folder too.",
        epilog=CONFORM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    conform.add_argument("provider", metavar="PROVIDER", help="a name, or 'package.module:NAME'")
    conform.add_argument("--answers", metavar="DIR", required=True, help="the folder of answers")
    conform.add_argument(
        "--only", metavar="CHECK", action="append", default=[], help="one check by its name; may be repeated"
    )
    conform.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")


def _add_record(commands: Any) -> None:
    record = commands.add_parser(
        "record",
        help="write a run's real answers as a folder of answers, with a stand-in for all that nobody needs",
        description="Reads only. Key and address come from the environment, as for runops get.",
        epilog=RECORD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    record.add_argument("provider", metavar="PROVIDER", help="a name, or 'package.module:NAME'")
    record.add_argument("run_id", metavar="RUN_ID", nargs="?", help="the run; not with --from")
    record.add_argument("--to", metavar="DIR", required=True, help="a new folder")
    record.add_argument("--from", dest="saved", metavar="FILE", action="append", default=[], help=SAVED)
    record.add_argument("--until-over", action="store_true", help="follow the run, and write each change until its end")
    record.add_argument("--timeout", metavar="S", default=3600.0, help="seconds for that (3600)")
    record.add_argument("--result", action="store_true", help="read the route of the whole payload too")
    record.add_argument("--list", dest="listed", metavar="NAME=ID", help="the first page of a parent's list too")
    record.add_argument(
        "--keep-word", metavar="WORD", action="append", default=[], help="a word that no table holds; may be repeated"
    )
    record.add_argument(
        "--parent",
        metavar="NAME=ID",
        action="append",
        default=[],
        help="an id that the address of a run needs beside its own; may be repeated",
    )
    record.add_argument("--json", action="store_true", help="print the files' names as JSON, and nothing else")


def _add_new_provider(commands: Any) -> None:
    new = commands.add_parser(
        "new-provider",
        help="begin a provider's file, its test and its answers from two or three sample answers",
        epilog=NEW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.add_argument("name", metavar="NAME", help="a name in lower case, such as acme")
    new.add_argument(
        "--answers",
        metavar="FILE",
        nargs="+",
        required=True,
        help="bodies of the status route as they came, or files that runops record wrote: of a run that goes on, and "
        "of one that succeeded",
    )
    routes = new.add_argument_group("what no answer shows")
    routes.add_argument("--status", metavar="ROUTE", required=True, help="such as 'GET /v3/jobs/{run_id}'")
    routes.add_argument("--probe", metavar="ROUTE", required=True, help="a harmless route that a good key gets through")
    routes.add_argument("--base-url", metavar="URL", required=True, help="the root of the API, without a version")
    routes.add_argument("--docs", metavar="URL", required=True, help="its documentation")
    routes.add_argument(
        "--link", metavar="URL", default="", help="the page of a run, with {run_id} (the documentation)"
    )
    routes.add_argument("--key-header", metavar="HEADER", help="the header of the key (Authorization: Bearer)")
    routes.add_argument("--key-prefix", metavar="TEXT", action="append", default=[], help="what keys begin with")
    routes.add_argument("--cancel", metavar="ROUTE", help="such as 'DELETE /v3/jobs/{run_id}'")
    routes.add_argument("--submit", metavar="ROUTE", help="such as 'POST /v3/jobs'")
    routes.add_argument("--submit-answer", metavar="FILE", help="an answer to it, which holds the id of the new run")
    guesses = new.add_argument_group("where a guess would be wrong")
    guesses.add_argument(
        "--word", metavar="WORD=MEANING", action="append", default=[], help="a word and the phase or outcome it means"
    )
    guesses.add_argument("--id-field", metavar="NAME", help="the key of the run's id")
    guesses.add_argument("--state-field", metavar="NAME", help="the key of the word")
    guesses.add_argument("--submit-id", metavar="KEY.KEY", help="the keys that lead to the id of the new run")
    new.add_argument("--to", metavar="DIR", default=".", help="where it is written (the current folder)")
