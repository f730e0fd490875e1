"""Which versions are tested together, with what, and what stands in the way of those that are not supported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CORE = ("tests/core", "tests/emulator")
AIRFLOW = ("tests/airflow_side",)
DAGSTER = ("tests/dagster_side",)

TOOLS = (
    "blockbuster>=1.5.13",
    "hypothesis>=6.130",
    "jsonschema>=4.23",
    "limits>=4,<6",
    "opentelemetry-sdk>=1.27",
    "pytest>=9",
    "pytest-mock>=3.14",
    "pytest-xdist>=3.8",
)
"""What the tests of a side need beside the host."""
CORE_TOOLS = (*TOOLS, "cryptography>=43", "shtab>=1.7")
CORE_EXTRAS = ("emulator", "fast", "otel", "redis")
# A pre-release, or a version that is older than what it depends on, warns of what others have deprecated since.
LENIENT = ("-W", "default")
# What Dagster 1.12 does itself and warns of: how it makes a component, and how it loads a folder of them.
OF_DAGSTER_1_12 = (
    "-W",
    "ignore:Support for class-based:DeprecationWarning",
    "-W",
    "ignore:Function `ComponentLoadContext.build_defs_at_path`:DeprecationWarning",
)


@dataclass(frozen=True)
class Combination:
    """Versions that are installed together, and the tests that they are there for.

    Args:
        facts: What it is about, such as ``{"dagster": "1.12"}``; ``MATRIX`` selects by these.
        tests: Folders, and further arguments of pytest.
        extras: Of this project: what its environment is resolved from, if there is no lock.
        wanted: Further requirements, which narrow those.
        lock: A file below requirements/, which is taken as it is.
        resolution: ``lowest-direct``: each package that is named in the lowest version that is allowed.
        why_not: For what is not supported: what is missing there, and which promise does not hold.
    """

    facts: dict[str, str]
    tests: tuple[str, ...]
    extras: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    lock: str | None = None
    resolution: Literal["highest", "lowest-direct"] = "highest"
    why_not: str = ""

    @property
    def name(self) -> str:
        """What it is about, in one line."""
        return " ".join(f"{name}={value}" for name, value in self.facts.items())

    @property
    def python(self) -> str:
        """The version of Python."""
        return self.facts.get("python", "3.11")

    @property
    def folder(self) -> str:
        """The name of its environment and of its files."""
        return self.name.replace("=", "-").replace(" ", "-")


def _core(python: str, libraries: str = "newest") -> Combination:
    return Combination(
        {"python": python, "libraries": libraries},
        CORE,
        CORE_EXTRAS,
        CORE_TOOLS,
        resolution="highest" if libraries == "newest" else "lowest-direct",
    )


def _airflow(version: str, *, lock: str | None = None, python: str | None = None, why_not: str = "") -> Combination:
    facts = {"airflow": version} | ({"python": python} if python else {})
    wanted = (f"apache-airflow=={version}.*", *TOOLS)
    extras = () if why_not else ("airflow", "emulator", "testing")
    loose = ("httpx", "pydantic", "httptools", "starlette", "time-machine", "uvicorn") if why_not else ()
    return Combination(facts, (*AIRFLOW, *LENIENT), extras, (*wanted, *loose), lock, why_not=why_not)


def _dagster(version: str, *, lock: str | None = None, python: str | None = None, why_not: str = "") -> Combination:
    facts = {"dagster": version} | ({"python": python} if python else {})
    exact = version if version.count(".") == 2 else f"{version}.*"
    extras = () if why_not else ("dagster", "emulator", "testing")
    loose = ("httpx", "pydantic", "starlette", "time-machine", "uvicorn") if why_not else ()
    wanted = (f"dagster=={exact}", *TOOLS, *loose)
    lenient = OF_DAGSTER_1_12 if version.startswith("1.12") else LENIENT if why_not else ()
    return Combination(facts, (*DAGSTER, *lenient), extras, wanted, lock, why_not=why_not)


AIRFLOW_3_0 = """\
`airflow.sdk.BaseHook` is missing, so nothing imports. With that name taken from Airflow's core and the page left
out, 3,065 fast tests passed on 3.0.6, 194 were skipped and 46 failed, on 2026-11-28. Some of these are tests of
files that were left out with the page; the rest come from what is missing. The page "External runs" needs
SQLAlchemy 2 and `DBDagBag`, and Airflow 3.0 allows SQLAlchemy 1.4 only. A DAG processor cannot ask for an XCom
(`GetXCom`), so `cancel_on_failure` cannot learn which run a worker that died has left. `BaseHook.aget_connection`
is missing: a trigger that a person kills would read its connection by a blocking call, and none of the tests of
that kill, nor of the order of a triggerer's channel after a cancellation, passes."""
DAGSTER_1_10 = """\
`BulkActionStatus.FAILING` is missing, by which a step learns whether the backfill that it belongs to goes on, so
nothing imports. What is missing in 1.11 is missing here too."""
DAGSTER_1_12 = """\
`dagster.asset_check` takes no `partitions_def` before 1.12.13. On 1.12.14 1,357 fast tests passed on 2026-11-28, and 10
could not run in that environment (no httptools, which the testing kit asked for then). But nobody has killed and
terminated Dagster's own processes there (`tests/dagster_host`), which is what shows that no run is submitted twice or
lost; what is not shown is not promised."""
DAGSTER_1_11 = """\
`dagster.FreshnessPolicy` cannot be imported: 1.11 has renamed the old one, and the new one is public from 1.12 on.
`dagster.asset_check` takes no `partitions_def` before 1.12.13: no check of a partition can be built, there and in
1.12.0 to 1.12.12. Of the files a to d and m to p of the folder 520 tests passed on 1.11.16 with pydantic 2.11, and
12 failed: for one of these reasons, for `is_virtual`, which comes with 1.13, for the record of a phase, which holds
only plain text since, or for one that failed everywhere that day. On 1.12.0 1,263 passed and 12 failed, for the
same reasons."""

COMBINATIONS: tuple[Combination, ...] = (
    _core("3.11", "lowest"),
    *(_core(python) for python in ("3.11", "3.12", "3.13", "3.14")),
    _airflow("3.0", why_not=AIRFLOW_3_0),
    _airflow("3.1", lock="airflow-lowest.lock"),
    _airflow("3.2", lock="airflow-3.2.lock"),
    _airflow("3.3"),
    _airflow("3.3", python="3.14"),
    _airflow("3.4", lock="airflow-next.lock"),
    _dagster("1.10", why_not=DAGSTER_1_10),
    _dagster("1.11", why_not=DAGSTER_1_11),
    _dagster("1.12", why_not=DAGSTER_1_12),
    _dagster("1.13.0", lock="dagster-lowest.lock"),
    _dagster("1.13"),
    _dagster("1.13", python="3.14"),
)


def selected(wanted: str) -> list[Combination]:
    """The combinations that have every fact in a text such as ``python=3.13``, or all.

    Raises:
        ValueError: None has them.
    """
    facts = {name: value for name, _, value in (word.partition("=") for word in wanted.split())}
    found = [each for each in COMBINATIONS if facts.items() <= each.facts.items()]
    if not found:
        names = "\n".join(f"  {each.name}" for each in COMBINATIONS)
        raise ValueError(f"MATRIX={wanted!r} selects nothing. There are:\n{names}")
    return found
