"""What becomes of the external runs of a step that fails for good: nobody is left who would wait for them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from runops.core import RunopsError
from runops.dagster import _compat, verdicts
from runops.dagster.options import StepSettings
from runops.dagster.resource import ProviderResource, named_resource

R = TypeVar("R")


class LeavesNothing(ABC):
    """A wait in a step that may cancel what the step leaves behind.

    Args:
        context: The step's context.
        resource: The service.
        settings: What the user chose.
    """

    def __init__(self, context: _compat.StepContext, resource: ProviderResource, settings: StepSettings) -> None:
        self._context = context
        self._resource = resource
        self._settings = settings

    @abstractmethod
    def _may_leave(self) -> bool:
        """Whether there is anything that is to be cancelled then."""

    @abstractmethod
    def _cancel_what_is_left(self) -> None:
        """Cancel it, unless the step has outlived its Dagster run: a re-execution may wait for the same."""

    @abstractmethod
    def _tell_error(self, error: RunopsError, failure: BaseException) -> None:
        """Count and trace an error that ends the step.

        Args:
            error: The error.
            failure: How Dagster shows it.
        """

    def leaving_nothing(self, work: Callable[[], R]) -> R:
        """What ``work`` gives. Where it fails, the step ends by that, and what it leaves may be cancelled.

        Raises:
            dagster.Failure: An error of ours, as Dagster shows it.
        """
        try:
            return work()
        except RunopsError as error:
            failure = verdicts.failure_of(error, named_resource(self._context.resources, self._resource))
            self._tell_error(error, failure)
            self.leave_nothing(failure)
            raise failure from error
        except Exception as error:
            self.leave_nothing(error)
            raise

    def leave_nothing(self, error: BaseException) -> None:
        """Cancel what a step leaves that fails for good.

        Args:
            error: What the step ends with.
        """
        if not self._may_leave():
            return
        try:
            if self._settings.get("reattach", True) and _compat.tried_again(self._context, error):
                return
        except Exception as failure:  # noqa: BLE001 - a storage raises what it likes
            name = type(failure).__name__
            self.log(f"Whether the step is tried again could not be found out ({name}): nothing is cancelled.")
            return
        self._cancel_what_is_left()

    def log(self, text: str, level: int = logging.INFO) -> None:
        """Write a line into the step's log."""
        self._context.log.log(level, text)
