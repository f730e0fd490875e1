"""A submit whose answer never came, as it travels to the triggerer, which looks for its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from runops.core.waiting.intent import Intent


@dataclass(frozen=True, slots=True)
class LostSubmit:
    """A submit whose answer never came, and for how long its run is looked for. It holds no payload.

    :param parent: The parent whose list shows the run.
    :param intent: What was known before the submit.
    :param until: Unix seconds at which the search ends.
    :param adopt_uncertain: Whether the single new run is taken for ours where no mark can prove it.
    """

    parent: Mapping[str, str]
    intent: Intent
    until: float
    adopt_uncertain: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON primitives."""
        return {
            "parent": dict(self.parent),
            "intent": self.intent.to_dict(),
            "until": self.until,
            "adopt_uncertain": self.adopt_uncertain,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """What :meth:`to_dict` wrote."""
        return cls(
            parent=dict(value["parent"]),
            intent=Intent.from_dict(value["intent"]),
            until=float(value["until"]),
            adopt_uncertain=bool(value.get("adopt_uncertain")),
        )
