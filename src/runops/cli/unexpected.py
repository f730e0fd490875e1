"""The end of a command that nobody has foreseen: one line without a secret, and on request where it happened."""

from __future__ import annotations

import os
import re
import sys
import traceback

DEBUG = "RUNOPS_DEBUG"
"""The environment variable that asks for a traceback."""
ERROR_CODE = "unexpected-error"
"""As the core lists it, whose import may be the very thing that fails."""

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|PROXY", re.IGNORECASE)
_SHORTEST_SECRET = 4


def describe(error: BaseException) -> str:
    """What kind of error it is and what it says, in one line; with :data:`DEBUG` its traceback is printed before."""
    if not os.environ.get(DEBUG):
        return f"unexpected {type(error).__name__}{_text(error)}. Set {DEBUG}=1 to see where. [{ERROR_CODE}]"
    print(without_secrets("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)
    return f"unexpected {type(error).__name__}{_text(error)}. [{ERROR_CODE}]"


def without_secrets(text: str) -> str:
    """A text without the values of environment variables that are named like secrets."""
    for secret in _secrets():
        text = text.replace(secret, "[removed]")
    return text


def _text(error: BaseException) -> str:
    if isinstance(error, ImportError):
        # What cleans a text may be the very thing that cannot be imported; and names of modules are no secret.
        return f": {error}".rstrip(".")
    from runops.core.model.redaction import clean

    text = clean(str(error), *_secrets())
    return f": {text}".rstrip(".") if text else ""


def _secrets() -> list[str]:
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    found |= {value.strip() for value in found}
    return sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
