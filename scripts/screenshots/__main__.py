"""``python -m scripts.screenshots``: starts both hosts, checks what their pages say, and takes the pictures.

The exit code is 0 when every page shows what it should, 1 when one does not, 128 + the signal's number when stopped.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.processes import DemoError, Interrupted, StopSignal, Supervisor
from demo.screen import Screen
from scripts.screenshots.browser import ROOT, PictureError, camera, chromium

PICTURES = ROOT / "docs" / "screenshots"
HOSTS = ("airflow", "dagster", "page")


def main(argv: Sequence[str] | None = None) -> int:
    """Take all pictures.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.
    """
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__)
    parser.add_argument("--only", choices=HOSTS, help="the pictures of one host")
    parser.add_argument("--into", type=Path, default=PICTURES, help="the folder for the pictures")
    parser.add_argument("--keep", action="store_true", help="keep the folder with databases and logs")
    parser.add_argument("--every", action="store_true", help="also those of the page that the docs do not show")
    options = parser.parse_args(argv)
    stop = StopSignal()
    stop.install()
    folder = Path(tempfile.mkdtemp(prefix="runops-screenshots-"))
    code, keep = 1, True
    try:
        chromium()
        options.into.mkdir(parents=True, exist_ok=True)
        _take(stop, folder, options.into, (options.only,) if options.only else HOSTS, every=options.every)
        code, keep = 0, options.keep
    except Interrupted as signal:
        code, keep = 128 + signal.number, options.keep
        print(f"\nstopped by {signal}", file=sys.stderr)
    except (DemoError, PictureError) as error:
        print(f"\n{error}", file=sys.stderr)
    finally:
        if keep:
            print(f"databases and logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _take(stop: StopSignal, folder: Path, into: Path, hosts: Sequence[str], *, every: bool) -> None:
    logs = folder / "logs"
    logs.mkdir()
    with Supervisor(logs, stop) as supervisor:
        from demo.vendors import Vendors
        from scripts.screenshots import airflow_pages, dagster_pages, external_runs
        from scripts.screenshots.world import AirflowWorld, DagsterWorld, secrets

        screen = Screen()
        vendors = Vendors(supervisor, folder)
        vendors.start()
        for host in hosts:
            if host == "page":
                page = external_runs.PageWorld(screen, supervisor, folder)
                page.start()
                _tell(screen, external_runs.take(page, into, every=every), into)
                continue
            world_of, pages = {"airflow": (AirflowWorld, airflow_pages), "dagster": (DagsterWorld, dagster_pages)}[host]
            world = world_of(screen, supervisor, folder, vendors)
            world.start()
            with camera(into, secrets()) as held:
                pages.take(held, world)
                _tell(screen, held.taken, into)
        screen.say("stopping all processes")


def _tell(screen: Screen, taken: Sequence[str], into: Path) -> None:
    for name in taken:
        size = (into / f"{name}.png").stat().st_size
        screen.say(f"{name}.png, {size / 1000:.0f} kB")


if __name__ == "__main__":
    sys.exit(main())
