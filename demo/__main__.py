"""``python -m demo``: runs the demo, prints its table, and leaves nothing behind. The exit code tells how it went."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.processes import DemoError, Interrupted, StopSignal, Supervisor
from demo.screen import Screen, table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo: 0 when every cell is as promised, 1 when not, 128 + the signal's number when stopped.

    Args:
        argv: The arguments; ``sys.argv[1:]`` if None.
    """
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Run every provider and outcome through a real Airflow and a real Dagster on this machine.",
    )
    parser.add_argument("--ui", action="store_true", help="keep both web interfaces up until Ctrl-C")
    parser.add_argument("--keep", action="store_true", help="keep the folder with databases and logs")
    options = parser.parse_args(argv)
    stop = StopSignal()
    stop.install()
    folder = Path(tempfile.mkdtemp(prefix="runops-demo-"))
    keep = options.keep
    try:
        code = _play(stop, folder, ui=options.ui)
        keep = keep or code != 0
    except Interrupted as signal:
        code = 128 + signal.number
        print(f"\nstopped by {signal}", file=sys.stderr)
    except DemoError as error:
        keep, code = True, 1
        print(f"\n{error}", file=sys.stderr)
    except BaseException:
        keep = True
        raise
    finally:
        if keep:
            print(f"databases and logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _play(stop: StopSignal, folder: Path, *, ui: bool) -> int:
    logs = folder / "logs"
    logs.mkdir()
    screen = Screen()
    with Supervisor(logs, stop) as supervisor:
        # Airflow's and Dagster's own packages take seconds to import: people should see something before.
        screen.say(f"logs: {logs}")
        from demo.scenes import Demo

        demo = Demo(screen, supervisor, folder)
        if ui:
            from demo.web import check

            check()
        findings = demo.play()
        screen.print("\n" + table(findings.rows) + "\n")
        for line in findings.differences:
            print(f"NOT AS PROMISED  {line}", file=sys.stderr)
        if ui:
            from demo.web import serve

            serve(screen, supervisor, demo)
        screen.say("stopping all processes")
    screen.say("not all is as promised" if findings.differences else "every cell is as promised")
    return 1 if findings.differences else 0


if __name__ == "__main__":
    sys.exit(main())
