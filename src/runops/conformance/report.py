"""What the kit has found: one line for each fault of a declaration, and what nothing in the folder shows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from runops.core.model.codes import text_of

Level = Literal["wrong", "unproven"]


def said_in(error: BaseException) -> str:
    """What an error says, to stand within a finding, which is a sentence of its own."""
    return text_of(error).rstrip(".")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a declaration, or that the folder does not prove.

    Args:
        check: Which check found it, one of :data:`~runops.conformance.check.CHECKS`.
        field: The field of the declaration, as it is written there.
        problem: What is wrong, in words, without anything of a payload.
        advice: What to do.
        file: The answer's file; empty where no single one shows it.
        level: ``wrong``, or ``unproven`` where no answer shows whether it is right.
    """

    check: str
    field: str
    problem: str
    advice: str
    file: str = ""
    level: Level = "wrong"

    def __str__(self) -> str:
        where = f" ({self.file})" if self.file else ""
        return f"{self.level}  {self.check}: {self.field}{where}: {self.problem}. {self.advice}."

    def to_dict(self) -> dict[str, str]:
        """The same as JSON primitives."""
        return {
            "level": self.level,
            "check": self.check,
            "field": self.field,
            "file": self.file,
            "problem": self.problem,
            "advice": self.advice,
        }


def _one(alike: list[Finding]) -> Finding:
    """One finding for several that differ in their files alone."""
    first, more = alike[0], len(alike) - 1
    return replace(first, file=f"{first.file} and {more} more") if more else first


@dataclass
class Report:
    """All that was found about one declaration.

    Args:
        provider: The provider's name.
        findings: In the order of the checks.
        passed: What was tried and went well, by check: how often.
    """

    provider: str
    findings: list[Finding] = field(default_factory=list[Finding])
    passed: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; what is unproven does not count."""
        return not self.wrong

    @property
    def wrong(self) -> list[Finding]:
        """What must be mended."""
        return [each for each in self.findings if each.level == "wrong"]

    @property
    def unproven(self) -> list[Finding]:
        """What no answer of the folder shows."""
        return [each for each in self.findings if each.level == "unproven"]

    def add(self, check: str, found: list[Finding], tried: int) -> None:
        """Take in what one check has found; the same finding of both clients counts once."""
        alike: dict[tuple[str, str, str], list[Finding]] = {}
        for each in dict.fromkeys(found):
            alike.setdefault((each.check, each.field, each.problem), []).append(each)
        known = {(each.check, each.field, each.problem) for each in self.findings}
        self.findings += [_one(group) for key, group in alike.items() if key not in known]
        wrong = {each.file or each.problem for each in found if each.level == "wrong"}
        self.passed[check] = max(tried - len(wrong), 0)

    def lines(self) -> list[str]:
        """For people."""
        counted = ", ".join(f"{name} {count}" for name, count in self.passed.items())
        whole = f"{self.provider}: {'conforms' if self.ok else f'{len(self.wrong)} wrong'}"
        if self.unproven:
            whole += f", {len(self.unproven)} unproven"
        return [*map(str, self.wrong), *map(str, self.unproven), f"{whole} (passed: {counted})"]

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "provider": self.provider,
            "conforms": self.ok,
            "findings": [each.to_dict() for each in self.findings],
            "passed": dict(self.passed),
        }
