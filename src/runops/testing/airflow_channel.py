"""Lets one thread at a time ask Airflow in ``dag.test()``, as the channel of a real worker does by itself.

While Airflow 3.3 answers in process, it takes its channel away from the whole process for that moment; a thread that
looks for it at the same time finds none, and the first one may put none back.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar
from unittest.mock import patch

R = TypeVar("R")
MARK = "_runops_one_at_a_time"
_turn = threading.RLock()


def one_at_a_time(act: Callable[..., R]) -> Callable[..., R]:
    """A function that asks Airflow, made to wait until no other one does."""

    @functools.wraps(act)
    def in_turn(*args: Any, **kwargs: Any) -> R:
        with _turn:
            return act(*args, **kwargs)

    setattr(in_turn, MARK, True)
    return in_turn


def keep_threads_apart(patches: ExitStack) -> None:
    """Have the record of a set, which another thread writes, wait its turn too.

    Args:
        patches: Undoes it.
    """
    from runops.airflow.many.ledger_store import LedgerStore

    if not hasattr(LedgerStore.save, MARK):
        patches.enter_context(patch.object(LedgerStore, "save", one_at_a_time(LedgerStore.save)))
