"""What a person may ask the page for: filters, search, sort and page, checked and bounded before a query is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from runops.core.model.run import Outcome, Phase

MOST_ROWS = 200
"""Rows of one page."""
MOST_OFFSET = 1_000_000
MOST_CHOICES = 50
"""Values of one filter."""
LONGEST = 250
"""Characters of an id, as Airflow bounds its own."""
LONGEST_SEARCH = 200

Sort = Literal[
    "began_at", "created_at", "started_at", "finished_at", "ended_at", "looked_at", "written_at",
    "provider", "run_id", "state", "status", "phase", "outcome", "verdict", "holds", "reason", "progress", "spend",
    "dag_id", "dag_run_id", "task_id", "map_index", "task_state",
]  # fmt: skip
SORTS = frozenset(get_args(Sort))


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("the sign NUL is in no text that is stored")
    return text


Text = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_storable)]
Search = Annotated[str, Field(max_length=LONGEST_SEARCH), AfterValidator(_storable)]
Texts = Annotated[list[Text], Field(max_length=MOST_CHOICES)]


class Filters(BaseModel):
    """Which runs."""

    # A name that no filter has would silently show everything.
    model_config = ConfigDict(extra="forbid")

    q: Search = ""
    provider: Texts = []
    phase: Annotated[list[Phase], Field(max_length=MOST_CHOICES)] = []
    outcome: Annotated[list[Outcome], Field(max_length=MOST_CHOICES)] = []
    verdict: Annotated[list[Literal["succeed", "warn", "skip", "fail"]], Field(max_length=MOST_CHOICES)] = []
    holds: Annotated[
        list[Literal["paused", "waiting", "turn", "rate_limit", "key"]], Field(max_length=MOST_CHOICES)
    ] = []
    dag_id: Texts = []
    task_id: Texts = []
    dag_run_id: Texts = []
    map_index: Annotated[list[Annotated[int, Field(ge=-1, le=2**31 - 1)]], Field(max_length=MOST_CHOICES)] = []
    open: bool | None = None


class RunsQuestion(Filters):
    """Which page of which runs, in which order."""

    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 50
    offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)] = 0
    sort: Annotated[str, Field(max_length=40)] = "-began_at"

    @field_validator("sort")
    @classmethod
    def _known(cls, sort: str) -> str:
        if sort.removeprefix("-") not in SORTS:
            raise ValueError(f"allowed are {', '.join(sorted(SORTS))}, with - in front for the largest first")
        return sort


class TaskQuestion(BaseModel):
    """One task instance."""

    model_config = ConfigDict(extra="forbid")

    dag_id: Text
    dag_run_id: Text
    task_id: Text
    map_index: Annotated[int, Field(ge=-1, le=2**31 - 1)] = -1


class RowsQuestion(TaskQuestion):
    """Which page of the runs of a set."""

    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 50
    offset: Annotated[int, Field(ge=0, le=MOST_OFFSET)] = 0
    q: Search = ""
    outcome: Annotated[list[Outcome], Field(max_length=MOST_CHOICES)] = []


class ChartsQuestion(BaseModel):
    """Which runs of which days."""

    model_config = ConfigDict(extra="forbid")

    days: Annotated[int, Field(ge=1, le=365)] = 30
    provider: Texts = []
    dag_id: Texts = []
    task_id: Texts = []


@dataclass(frozen=True, slots=True)
class Address:
    """One task instance, by its four ids."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, question: TaskQuestion) -> Address:
        """The ids of a question."""
        return cls(question.dag_id, question.dag_run_id, question.task_id, question.map_index)

    @classmethod
    def of_xcom(cls, row: Any) -> Address:
        """The ids in a row of XComs, whose ``run_id`` is the DAG run's and whose ``dag_run_id`` is a number."""
        return cls(row.dag_id, row.run_id, row.task_id, row.map_index)

    def to_dict(self) -> dict[str, str | int]:
        """By their names."""
        return {
            "dag_id": self.dag_id,
            "dag_run_id": self.dag_run_id,
            "task_id": self.task_id,
            "map_index": self.map_index,
        }


RunsParams = Annotated[RunsQuestion, Query()]
TaskParams = Annotated[TaskQuestion, Query()]
RowsParams = Annotated[RowsQuestion, Query()]
ChartsParams = Annotated[ChartsQuestion, Query()]
