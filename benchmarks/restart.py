"""What holds the loop of a triggerer that begins with many deferred tasks at once, and whose work it is.

``python -m benchmarks.restart 1000`` makes that many triggers in Airflow's own trigger runner, with a busy process
beside each core. A thread samples where the loop stands whenever it is late, and prints whose work took how much CPU:
on a busy machine the loop is held for much longer than that, while other processes have the core.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

LATE = 0.05
"""Seconds without a round of the loop from which it counts as held."""
SAMPLE = 0.005
SETTLES = 3.0
"""Seconds without a late round after which the start is over."""


class Sampler(threading.Thread):
    """Notes where the main thread stands while its loop is late."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.main = threading.get_ident()
        self.round_at = time.monotonic()
        self.held = 0.0
        self.work: defaultdict[str, float] = defaultdict(float)
        self.longest = 0.0
        self.late_at = self.round_at
        self.ended = False

    async def beat(self) -> None:
        """Say that the loop goes round."""
        while not self.ended:
            now = time.monotonic()
            if now - self.round_at > LATE:
                self.longest, self.late_at = max(self.longest, now - self.round_at), now
            self.round_at = now
            await asyncio.sleep(SAMPLE)

    def run(self) -> None:
        clock = time.pthread_getcpuclockid(self.main)
        last, used = time.monotonic(), time.clock_gettime(clock)
        while not self.ended:
            time.sleep(SAMPLE)
            now, cpu = time.monotonic(), time.clock_gettime(clock)
            if now - self.round_at > LATE:
                self.held += now - last
                self.work[whose(sys._current_frames().get(self.main))] += cpu - used
            last, used = now, cpu


def whose(frame: FrameType | None) -> str:
    """Whose work a stack is: the innermost frame of runops or Airflow says it."""
    importing = False
    innermost = "" if frame is None else f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"
    while frame is not None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        importing = importing or "importlib" in path
        what = "an import" if importing else name
        if "/runops/" in path:
            return f"runops: {Path(path).stem}.{name}{' (import)' if importing else ''}"
        if "/airflow/" in path:
            return f"airflow: {Path(path).stem}.{what}"
        frame = frame.f_back
    return f"nobody's: {'an import' if importing else innermost}"


def answers(there: socket.socket) -> None:
    """The supervisor's side of the channel, in a process of its own: it knows every connection."""
    import msgspec
    from airflow.sdk.execution_time.comms import _RequestFrame, _ResponseFrame

    decoder = msgspec.msgpack.Decoder(_RequestFrame)
    stream = there.makefile("rb")
    while length := stream.read(4):
        request = decoder.decode(stream.read(int.from_bytes(length, "big")))
        asked = request.body or {}
        body: Any = None
        if asked.get("type") == "GetConnection":
            named = {"type": "ConnectionResult", "conn_id": asked["conn_id"], "conn_type": "nexio", "password": "k"}
            rest = dict.fromkeys(("schema", "login", "extra"))
            body = {**named, **rest, "host": os.environ["BENCH_HOST"], "port": None}
        elif asked.get("type") == "GetTaskStates":
            body = {"type": "TaskStatesResult", "task_states": {}}
        there.sendall(bytes(_ResponseFrame(id=request.id, body=body).as_bytes()))


def workloads(count: int) -> list[Any]:
    """The triggers as a supervisor hands them out."""
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.models.trigger import Trigger

    from runops.core.providers.nexio import NEXIO
    from runops.core.waiting.options import WaitOptions

    patience = WaitOptions.build(NEXIO, now=time.time(), timeout=3600.0).to_dict()
    made: list[Any] = []
    for number in range(1, count + 1):
        ref = {"provider": "nexio", "run_id": f"r{number}", "parents": {}}
        kwargs = {"provider": "nexio", "conn_id": "c", "ref": ref, "patience": patience, "cancel_on_kill": True}
        task = {
            "id": UUID(int=number),
            "dag_version_id": UUID(int=1),
            "task_id": "wait",
            "dag_id": "bench",
            "run_id": "bench",
            "try_number": 1,
            "map_index": number,
            "pool_slots": 1,
            "queue": "default",
            "priority_weight": 1,
        }
        path = "runops.airflow.trigger.RunTrigger"
        ti = TaskInstanceDTO.model_validate(task)
        made.append(RunTrigger(id=number, classpath=path, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs), ti=ti))
    return made


async def start(count: int, ours: socket.socket) -> None:
    """Make the triggers, and print what held the loop until all was quiet."""
    from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder, TriggerRunner
    from airflow.sdk.execution_time import task_runner

    reader, writer = await asyncio.open_connection(sock=ours)
    decoder = TriggerCommsDecoder(socket=ours, async_reader=reader, async_writer=writer)
    if hasattr(decoder, "start_reader"):
        await decoder.start_reader()
    setattr(task_runner, "SUPERVISOR_COMMS", decoder)  # noqa: B010 - as Airflow's own runner does
    runner = TriggerRunner()
    runner.comms_decoder = decoder
    runner.to_create.extend(workloads(count))
    sampler = Sampler()
    beating = asyncio.create_task(sampler.beat())
    sampler.start()
    began, cpu = time.monotonic(), time.process_time()
    await runner.create_triggers()
    while time.monotonic() - sampler.late_at < SETTLES:  # noqa: ASYNC110 - what is waited for is that nothing happens
        await asyncio.sleep(0.1)
    took = sampler.late_at - began
    sampler.ended = True
    await beating
    print(f"{count} triggers: quiet after {took:.2f} s, {time.process_time() - cpu:.2f} s of CPU in all")
    print(f"the loop was held for {sampler.held:.2f} s in all, {sampler.longest:.2f} s at the longest; CPU s of that:")
    for side in ("runops", "airflow", "nobody's"):
        of_it = {name: seconds for name, seconds in sampler.work.items() if name.startswith(side)}
        print(f"  {side}: {sum(of_it.values()):.2f}")
        for name, seconds in sorted(of_it.items(), key=lambda entry: -entry[1])[:8]:
            print(f"    {seconds:6.2f}  {name}")
    os._exit(0)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks.restart", description=__doc__)
    parser.add_argument("triggers", nargs="?", type=int, default=1_000)
    parser.add_argument("--idle", action="store_true", help="without busy processes beside")
    asked = parser.parse_args()
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="runops-restart-")
    # Takes connections, and answers nothing: what is measured is the start.
    silent = socket.create_server(("127.0.0.1", 0), backlog=4096)
    os.environ["BENCH_HOST"] = f"https://127.0.0.1:{silent.getsockname()[1]}/nexio"
    ours, theirs = socket.socketpair()
    children: list[int] = []
    for work in [lambda: answers(theirs), *([] if asked.idle else [spin] * (os.cpu_count() or 1))]:
        child = os.fork()
        if child == 0:
            ours.close()
            work()
            os._exit(0)
        children.append(child)
    theirs.close()
    logging.disable(logging.WARNING)
    # The measuring process leaves without its atexit; its children end with it.
    waiting = os.fork()
    if waiting == 0:
        asyncio.run(start(asked.triggers, ours))
    os.waitpid(waiting, 0)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


if __name__ == "__main__":
    main()
