"""The page's questions to Airflow's database: each one query, over the XComs of one key, joined to their tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, false, func, or_, select, true

from runops.airflow.external_run import EXTERNAL_RUN
from runops.airflow.plugin._compat import LIVE_STATES, OVER_STATES, TaskInstance, XComModel, rows_of_task
from runops.airflow.plugin.questions import Address, Filters, RunsQuestion
from runops.airflow.plugin.stored_json import StoredJson

RECENT_ENDS = 10
"""Ended runs of a task that its usual duration is taken from."""
MOST_CHARTED = 20_000
"""Ended runs that one chart is made from; the newest."""
MOST_NAMES = 1_000
"""DAGs, tasks or providers that the filters offer."""

SEARCHED = ("run_id", "provider", "state", "phase", "outcome", "reason", "holds_for", "error")
"""Fields of a record that the search looks into, beside the ids of its task. Not the connection: not all may see it."""


class RunQueries:
    """Selects over the stored records of DAGs that a person may read.

    :param dialect: The database's, as SQLAlchemy names it.
    :param dag_ids: The DAGs.
    """

    def __init__(self, dialect: str, dag_ids: Iterable[str]) -> None:
        self._json = StoredJson(XComModel.value, dialect)
        self._dag_ids = sorted(dag_ids)

    # --- which ---

    def _from(self, *columns: Any) -> Any:
        same = and_(
            TaskInstance.dag_id == XComModel.dag_id,
            TaskInstance.run_id == XComModel.run_id,
            TaskInstance.task_id == XComModel.task_id,
            TaskInstance.map_index == XComModel.map_index,
        )
        return select(*columns).select_from(XComModel).join(TaskInstance, same).where(*self._readable())

    def _readable(self) -> list[ColumnElement[bool]]:
        """Records of these DAGs, of the try that their task is in.

        A record is taken apart where its task lives only: what a task that is over has left is that of its last try,
        but for one that was written late, which :class:`Stored` finds out.
        """
        same_try = self._json.text("try_number") == cast(TaskInstance.try_number, String)
        return [
            XComModel.key == EXTERNAL_RUN,
            XComModel.dag_id.in_(self._dag_ids) if self._dag_ids else false(),
            self._json.is_object(),
            case((_over(), true()), else_=same_try),
        ]

    def _is_open(self) -> ColumnElement[bool]:
        # In this order: few tasks live, and only their records are taken apart.
        live = or_(TaskInstance.state.in_(LIVE_STATES), TaskInstance.state.is_(None))
        return case((live, self._json.text("ended_at").is_(None)), else_=false())

    def _where(self, filters: Filters) -> list[ColumnElement[bool]]:
        columns = {
            "dag_id": XComModel.dag_id,
            "dag_run_id": XComModel.run_id,
            "task_id": XComModel.task_id,
            "map_index": XComModel.map_index,
        }
        found: list[ColumnElement[bool]] = []
        for name in ("provider", "phase", "outcome", "verdict", "holds", *columns):
            if chosen := getattr(filters, name):
                of = columns[name] if name in columns else self._json.text(name)
                found.append(of.in_([each if isinstance(each, int) else str(each) for each in chosen]))
        if filters.open is not None:
            found.append(self._is_open() if filters.open else ~self._is_open())
        if words := filters.q.split():
            found += [self._found(word) for word in words]
        return found

    def _found(self, word: str) -> ColumnElement[bool]:
        columns = or_(
            *(each.icontains(word, autoescape=True) for each in (XComModel.dag_id, XComModel.task_id, XComModel.run_id))
        )
        fields = or_(*(self._json.text(name).icontains(word, autoescape=True) for name in SEARCHED))
        return or_(columns, case((self._json.may_hold(word), fields), else_=false()))

    def _order(self, by: Any, sort: str) -> list[Any]:
        down = sort.startswith("-")
        if self._json.sorts_null_first:
            return [by.is_(None), by.desc() if down else by.asc()]
        return [by.desc().nulls_last() if down else by.asc().nulls_last()]

    def _sorted_by(self, name: str) -> Any:
        columns: dict[str, Any] = {
            "dag_id": XComModel.dag_id,
            "dag_run_id": XComModel.run_id,
            "task_id": XComModel.task_id,
            "map_index": XComModel.map_index,
            "task_state": TaskInstance.state,
            # When this try of the task began: its wait began then, and Airflow has it in a column.
            "began_at": TaskInstance.start_date,
        }
        if name in columns:
            return columns[name]
        if name == "status":
            return func.coalesce(self._json.text("outcome"), self._json.text("phase"))
        if name == "progress":
            done, total = (self._json.number("progress", each) for each in ("done", "total"))
            return done * 1.0 / func.nullif(total, 0)
        return self._json.number(name) if name == "spend" else self._json.text(name)

    # --- what ---

    def page(self, question: RunsQuestion) -> Any:
        """One page: the ids, the record as it is stored, when, how the task stands, and how many there are in all.

        Which they are is found first, by their keys: no database has to carry the records through a sort.
        """
        by = self._sorted_by(question.sort.removeprefix("-")).label("sorted")
        keys = [XComModel.dag_run_id, XComModel.task_id, XComModel.map_index]
        task = [TaskInstance.state.label("task_state"), TaskInstance.try_number.label("now_in_try")]
        found = self._from(*keys, by, *task, func.count().over().label("total")).where(*self._where(question))
        found = found.order_by(*self._order(by, question.sort), *keys)
        page = found.limit(question.limit).offset(question.offset).subquery()
        query = select(*self._stored(), page.c.task_state, page.c.now_in_try, page.c.total)
        query = query.join(page, _is_key_of(page))
        return query.order_by(*self._order(page.c.sorted, question.sort), *keys)

    def total(self, filters: Filters) -> Any:
        """How many there are: for a page behind the last one, which says nothing of it."""
        return self._from(func.count()).where(*self._where(filters))

    def one(self, address: Address) -> Any:
        """The record of one task instance."""
        task = (TaskInstance.state.label("task_state"), TaskInstance.try_number.label("now_in_try"))
        return self._from(*self._stored(), *task).where(*is_of(address))

    def _stored(self) -> list[Any]:
        return [
            XComModel.dag_id,
            XComModel.run_id.label("dag_run_id"),
            XComModel.task_id,
            XComModel.map_index,
            XComModel.timestamp,
            self._json.raw.label("record"),
        ]

    def choices(self, name: str) -> Any:
        """The values of a field, or ids, that there are."""
        of = {"dag_id": XComModel.dag_id, "task_id": XComModel.task_id}.get(name)
        of = self._json.text(name) if of is None else of
        return self._from(of.label("choice")).where(of.is_not(None)).distinct().order_by(of).limit(MOST_NAMES)

    def recent_ends(self, tasks: Sequence[tuple[str, str]]) -> Any:
        """The newest records of each of these tasks that are over: one query, which takes no record apart.

        :param tasks: DAG and task.
        """
        newest = func.row_number().over(
            partition_by=(TaskInstance.dag_id, TaskInstance.task_id), order_by=TaskInstance.end_date.desc()
        )
        ids = [TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index]
        those = or_(
            *(and_(TaskInstance.dag_id == dag_id, TaskInstance.task_id == task_id) for dag_id, task_id in tasks)
        )
        over = select(*ids, newest.label("place")).where(TaskInstance.end_date.is_not(None), those).subquery()
        return (
            select(XComModel.dag_id, XComModel.task_id, self._json.raw.label("record"))
            .join(
                over,
                and_(
                    XComModel.dag_id == over.c.dag_id,
                    XComModel.run_id == over.c.run_id,
                    XComModel.task_id == over.c.task_id,
                    XComModel.map_index == over.c.map_index,
                ),
            )
            .where(XComModel.key == EXTERNAL_RUN, over.c.place <= RECENT_ENDS)
        )

    def ended_since(self, since: Any, question: Any) -> Any:
        """Runs that ended since a moment: what the charts are made of, the newest first."""
        fields = (
            "provider",
            "outcome",
            "spend_unit",
            "began_at",
            "created_at",
            "started_at",
            "finished_at",
            "ended_at",
        )
        query = self._from(
            XComModel.dag_id,
            XComModel.task_id,
            XComModel.timestamp,
            *(self._json.text(name).label(name) for name in fields),
            self._json.number("spend").label("spend"),
        ).where(XComModel.timestamp >= since, self._json.text("outcome").is_not(None))
        for name, of in {
            "dag_id": XComModel.dag_id,
            "task_id": XComModel.task_id,
            "provider": self._json.text("provider"),
        }.items():
            if chosen := getattr(question, name):
                query = query.where(of.in_(chosen))
        return query.order_by(XComModel.timestamp.desc()).limit(MOST_CHARTED)

    def same_run(self, provider: str, conn_id: str | None, run_id: str | None, address: Address) -> Any:
        """The task instances whose records name a run through a connection, in the order of their ids. Of a set, or
        where there is no run yet, the one task instance."""
        query = select(XComModel.dag_run_id, XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
        if run_id is None or conn_id is None:
            return query.where(*is_record_of(address))
        return query.where(
            XComModel.key == EXTERNAL_RUN,
            self._json.is_object(),
            self._json.text("run_id") == run_id,
            self._json.text("provider") == provider,
            self._json.text("conn_id") == conn_id,
        ).order_by(*_BY_KEY)


_BY_KEY = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)


def _over() -> ColumnElement[bool]:
    return TaskInstance.state.in_(OVER_STATES)


def _is_key_of(page: Any) -> ColumnElement[bool]:
    return and_(
        XComModel.dag_run_id == page.c.dag_run_id,
        XComModel.task_id == page.c.task_id,
        XComModel.map_index == page.c.map_index,
        XComModel.key == EXTERNAL_RUN,
    )


def is_record_of(address: Address) -> tuple[ColumnElement[bool], ...]:
    """The record of one task instance."""
    return (XComModel.key == EXTERNAL_RUN, *is_of(address))


def is_of(address: Address) -> tuple[ColumnElement[bool], ...]:
    """The XComs of one task instance."""
    return rows_of_task(XComModel, address.to_dict())
