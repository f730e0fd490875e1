"""The event loop beside a step: an interrupt lets it end by itself, and strikes then."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from runops.core.polling.side_loop import SideLoop
from runops.dagster.many.beside import beside_step
from runops.dagster.step.interrupts import HeldInterrupts


@pytest.mark.parametrize("when", ["before the loop", "in the loop", "in what it asked for"])
def test_an_interrupt_lets_the_work_end_by_itself_and_strikes_then(when: str) -> None:
    told, done, held = asyncio.Event(), list[str](), HeldInterrupts()

    async def work(side: SideLoop[None]) -> None:
        if when == "in the loop":
            signal.raise_signal(signal.SIGINT)
        if when == "in what it asked for":
            await side.in_caller(lambda: signal.raise_signal(signal.SIGINT))
        await told.wait()
        # What it still has to write is written.
        await side.in_caller(lambda: done.append("recorded"))

    def interrupted() -> Any:
        with held:
            if when == "before the loop":
                signal.raise_signal(signal.SIGINT)
            beside_step(work, told.set, held).run()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["recorded"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "runops-loop" not in {thread.name for thread in threading.enumerate()}
