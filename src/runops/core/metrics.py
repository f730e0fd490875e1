"""What is counted of runs and waits, on all hosts: one list, and who fills it. It decides nothing and sends nothing.

No run, task or step is named in a tag: a number of a service, not of one of its runs. Where the numbers go says the
host: Airflow's own metrics, or OpenTelemetry (telemetry.py).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from runops.core.model.run import RunSnapshot

if TYPE_CHECKING:
    from runops.core.declaration import Provider

logger = logging.getLogger("runops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number.

    Args:
        name: Under which it is sent.
        kind: A counter adds up, a timer takes seconds one by one, a gauge is as it was last told.
        unit: Of its values; ``tag`` where a tag says it.
        tags: What it is told apart by.
        help: What it is, in words.
    """

    name: str
    kind: Literal["counter", "timer", "gauge"]
    unit: str
    tags: tuple[str, ...]
    help: str


POLLS = Metric(
    name="runops.polls",
    kind="counter",
    unit="reads",
    tags=("provider",),
    help="good reads of a run that is waited for; a page of a list counts for each run that it shows",
)
WAITS = Metric(
    name="runops.waits",
    kind="counter",
    unit="waits",
    tags=("provider", "outcome", "verdict"),
    help="waits that ended, those of each run of a set too",
)
ERRORS = Metric(
    name="runops.errors",
    kind="counter",
    unit="waits",
    tags=("provider", "error"),
    help="waits and submits that ended in an error, by its name",
)
TURNS = Metric(
    name="runops.turns",
    kind="counter",
    unit="submits",
    tags=("provider",),
    help="submits that were refused because something was active, and began to wait for their turn",
)
ADOPTIONS = Metric(
    name="runops.adoptions",
    kind="counter",
    unit="runs",
    tags=("provider",),
    help="runs of submits that were not answered, found and taken for ours",
)
ORPHANS = Metric(
    name="runops.orphans",
    kind="gauge",
    unit="runs",
    tags=("provider",),
    help="runs that are left behind and go on, as the last `cancel_orphans` has left them",
)
DETECTION_LATENCY = Metric(
    name="runops.detection_latency",
    kind="timer",
    unit="seconds",
    tags=("provider",),
    help="from a run's end, as its service tells it, to when a wait that had seen it open saw it ended",
)
SPEND = Metric(
    name="runops.spend",
    kind="counter",
    unit="tag",
    tags=("provider", "unit"),
    help="what runs have spent whose end was seen, in their service's unit",
)

METRICS = (POLLS, WAITS, ERRORS, TURNS, ADOPTIONS, ORPHANS, DETECTION_LATENCY, SPEND)


class RowEnd(Protocol):
    """What is counted of one run of a set."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more is done about it in this try."""
        ...

    @property
    def may_be_alive(self) -> bool:
        """Whether the run may go on."""
        ...

    @property
    def outcome(self) -> str | None:
        """How it ended."""
        ...

    @property
    def verdict(self) -> str | None:
        """What was decided about that."""
        ...

    @property
    def error(self) -> str | None:
        """The name of the error that ended it."""
        ...

    @property
    def spend(self) -> float | None:
        """What it has spent."""
        ...


Sink = Callable[[Metric, float, Mapping[str, str]], None]
"""Takes one value: to add, to note or to show, as the metric's kind says."""


class Meter:
    """Fills the list. Nothing that a sink raises reaches a wait.

    Args:
        sink: Where values go.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def emit(self, metric: Metric, value: float, **tags: str) -> None:
        """Send one value."""
        try:
            self._sink(metric, value, tags)
        except Exception:
            logger.debug("The metric %s could not be sent.", metric.name, exc_info=True)

    def reads(self, on_update: Callable[[RunSnapshot], None] | None, clock: Callable[[], float]) -> Reads:
        """Counts the reads of one wait, and tells each snapshot on.

        Args:
            on_update: Who else hears of each.
            clock: Unix seconds.
        """
        return Reads(self, on_update, clock)

    def ended(self, provider: Provider, snapshot: RunSnapshot, verdict: str | None) -> None:
        """The wait for a run ended.

        Args:
            provider: The run's.
            snapshot: Its last snapshot.
            verdict: What was decided about it; None where nobody decides.
        """
        self.emit(WAITS, 1, provider=snapshot.ref.provider, outcome=str(snapshot.outcome), verdict=str(verdict))
        spent = provider.spend.of(snapshot.details) if provider.spend and snapshot.run_ended else None
        self._spent(provider, spent)

    def set_ended(self, provider: Provider, rows: Iterable[RowEnd]) -> None:
        """The waits of a set ended: one value for each kind of end.

        Args:
            provider: The service.
            rows: Those of this try.
        """
        over = [row for row in rows if row.is_over]
        for (outcome, verdict, error), count in Counter((row.outcome, row.verdict, row.error) for row in over).items():
            if error is not None:
                self.emit(ERRORS, count, provider=provider.name, error=error)
            elif outcome is not None:
                self.emit(WAITS, count, provider=provider.name, outcome=str(outcome), verdict=str(verdict))
        spent = [row.spend for row in over if row.spend is not None and not row.may_be_alive]
        self._spent(provider, sum(spent) if spent else None)

    def erred(self, provider: str, error: BaseException) -> None:
        """A wait or a submit ended in an error."""
        self.emit(ERRORS, 1, provider=provider, error=type(error).__name__)

    def turn(self, provider: str) -> None:
        """A submit begins to wait for its turn."""
        self.emit(TURNS, 1, provider=provider)

    def adopted(self, provider: str) -> None:
        """The run of a submit that was not answered was found."""
        self.emit(ADOPTIONS, 1, provider=provider)

    def orphans(self, providers: Iterable[str], left: Iterable[str]) -> None:
        """A look at what is left behind is over.

        Args:
            providers: All that may be looked at: what has nothing left is told too.
            left: The provider of each run that goes on.
        """
        counts = Counter(left)
        for name in sorted({*providers, *counts}):
            self.emit(ORPHANS, counts[name], provider=name)

    def _spent(self, provider: Provider, spent: float | None) -> None:
        if provider.spend is not None and spent is not None and spent > 0:
            self.emit(SPEND, spent, provider=provider.name, unit=provider.spend.unit)


class Reads:
    """The reads of one wait. It takes the place of the wait's ``on_update``.

    Args:
        meter: Who counts.
        on_update: Who else hears of each snapshot.
        clock: Unix seconds.
    """

    __slots__ = ("_clock", "_meter", "_on_update", "_seen_open")

    def __init__(
        self, meter: Meter, on_update: Callable[[RunSnapshot], None] | None, clock: Callable[[], float]
    ) -> None:
        self._meter = meter
        self._on_update = on_update
        self._clock = clock
        self._seen_open = False

    def __call__(self, snapshot: RunSnapshot) -> None:
        """Take in a snapshot. What the other one raises ends the wait, as ever."""
        if not snapshot.ended_by:
            # The end of a wait by a clock is no read.
            self._count(snapshot)
        if self._on_update is not None:
            self._on_update(snapshot)

    def _count(self, snapshot: RunSnapshot) -> None:
        meter, provider = self._meter, snapshot.ref.provider
        meter.emit(POLLS, 1, provider=provider)
        if snapshot.run_ended and self._seen_open and snapshot.finished_at is not None:
            # Two clocks may disagree by more than the service is late.
            late = max(self._clock() - snapshot.finished_at.timestamp(), 0.0)
            meter.emit(DETECTION_LATENCY, late, provider=provider)
        self._seen_open = snapshot.outcome is None


def table() -> str:
    """The list as a table in Markdown, as the documentation shows it."""
    rows = ["| name | kind | unit | tags | is |", "|---|---|---|---|---|"]
    for each in METRICS:
        unit = "the tag `unit`" if each.unit == "tag" else each.unit
        rows.append(f"| `{each.name}` | {each.kind} | {unit} | {', '.join(each.tags)} | {each.help} |")
    return "\n".join(rows)
