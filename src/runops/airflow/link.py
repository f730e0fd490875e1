"""The button that opens a run in the provider's own interface. It reads an XCom, so a resumed process finds it too.

Each provider has a class of its own, such as ``NyxRunLink``: its name is part of the key of the XCom.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

from runops.airflow._compat import pushed
from runops.core import PROVIDERS

RUN_URL = "run_url"


class RunLink(BaseOperatorLink):
    """Open the run of a provider that is not shipped with runops."""

    name = "Open run"  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The page of the run, or an empty text while it is not known."""
        return pushed(ti_key, RUN_URL) or ""


LINKS: dict[str, type[RunLink]] = {
    name: type(
        f"{name.capitalize()}RunLink",
        (RunLink,),
        {"__module__": __name__, "__doc__": f"Open in {provider.title}.", "name": f"Open in {provider.title}"},
    )
    for name, provider in PROVIDERS.items()
}
"""The class of each provider's button."""


def __getattr__(name: str) -> type[RunLink]:
    for link in LINKS.values():
        if link.__name__ == name:
            return link
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
