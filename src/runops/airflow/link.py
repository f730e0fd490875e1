"""The button that opens a run in the provider's own interface. It reads an XCom, so a resumed process finds it too."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

RUN_URL = "run_url"


class RunLink(BaseOperatorLink):
    """Open the run of a provider that is not shipped with runops."""

    name = "Open run"  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The page of the run, or an empty text while it is not known."""
        return XCom.get_value(ti_key=ti_key, key=RUN_URL) or ""


class NexioRunLink(RunLink):
    """Open Nexio."""

    name = "Open in Nexio"


class NyxRunLink(RunLink):
    """Open the run in Nyx."""

    name = "Open in Nyx"


class OnepinRunLink(RunLink):
    """Open OnePin."""

    name = "Open in OnePin"


class B3osRunLink(RunLink):
    """Open the run's workflow in B3OS."""

    name = "Open in B3OS"


class NektRunLink(RunLink):
    """Open Nekt."""

    name = "Open in Nekt"
