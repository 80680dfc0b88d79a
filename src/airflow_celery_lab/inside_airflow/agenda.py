"""Whether Airflow's scheduler has anything to do, asked in one short question: a round of its loop asks thirty, for 20 ms of CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from airflow.models import asset
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import Exists, Select, func, or_, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError


class Agenda:
    """What a scheduler may have to do."""

    def __init__(self) -> None:
        self._known: object = None

    def rest(self, seconds: float, pace: float) -> bool:
        """Return whether there is something to do, as soon as there is; False after so many seconds. Looks every `pace` seconds."""
        return _look(ANYTHING, lambda answer: bool(answer[0]), seconds, pace)

    def await_news(self, seconds: float, pace: float) -> bool:
        """Return whether something has come since the last look, as soon as it has; False after so many seconds.

        What was there before is no news, except to the first look.
        """

        def has_changed(answer: Sequence[Any]) -> bool:
            before, self._known = self._known, answer
            return before != answer

        return _look(NEWS, has_changed, seconds, pace)


def _look(question: str, found: Callable[[Sequence[Any]], bool], seconds: float, pace: float) -> bool:
    end = time.monotonic() + seconds
    try:
        # One connection for all looks: to take it from the pool costs more than a look.
        with create_session() as session:
            connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            with _prepared(connection, question) as ask:
                while not found(ask()):
                    if (left := end - time.monotonic()) <= 0:
                        return False
                    time.sleep(min(pace, left))
                return True
    except SQLAlchemyError:  # The scheduler's next round meets the same, and says so.
        return True


@contextmanager
def _prepared(connection: Connection, question: str) -> Iterator[Callable[[], Sequence[Any]]]:
    """Yield what asks a question that Postgres reads and plans once: that takes it four times as long as to answer."""
    connection.exec_driver_sql(f"PREPARE {STATEMENT} AS {question}")
    try:
        yield lambda: connection.exec_driver_sql(f"EXECUTE {STATEMENT}").one()
    finally:
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"DEALLOCATE {STATEMENT}")


def _due() -> list[Exists]:
    """Return what a run is made for: a schedule that is due, or an asset for which a DAG waits."""
    signs = [
        select(DagModel.dag_id)
        .where(DagModel.is_paused.is_(False), DagModel.is_stale.is_(False), DagModel.next_dagrun_create_after <= func.now())
        .exists(),
        select(asset.AssetDagRunQueue.asset_id).exists(),
    ]
    if partitions := getattr(asset, "AssetPartitionDagRun", None):  # Since Airflow 3.2.
        signs.append(select(partitions.id).where(partitions.created_dag_run_id.is_(None)).exists())
    return signs


def _runs(state: DagRunState) -> Select[Any]:
    return select(DagRun.id).where(DagRun.state == state)


def _words(question: Select[Any]) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    return str(question.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


#: The question's name while it is asked, in a connection that asks one.
STATEMENT = "lab_agenda"
#: Whether there is anything to do: a run that has not ended, or one to be made.
ANYTHING = _words(select(or_(_runs(DagRunState.RUNNING).exists(), _runs(DagRunState.QUEUED).exists(), *_due())))
#: What differs when there is more to do than before: runs that were made or cleared, tasks that a trigger has woken, runs to be made.
NEWS = _words(
    select(
        select(func.max(DagRun.id)).scalar_subquery(),
        select(func.count()).select_from(_runs(DagRunState.QUEUED).subquery()).scalar_subquery(),
        select(func.count()).select_from(TaskInstance).where(TaskInstance.state == TaskInstanceState.SCHEDULED).scalar_subquery(),
        *_due(),
    )
)
