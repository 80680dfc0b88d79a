"""Task instances and jobs in Airflow's database, as far as the executor reads and changes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from airflow.jobs.job import Job
from airflow.models import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import func, select, tuple_, update

#: A worker has these; a task that was cleared while it ran is being ended.
HELD = (TaskInstanceState.RUNNING, TaskInstanceState.RESTARTING)


class Instance(NamedTuple):
    """A task that Airflow waits for."""

    id: str
    queued: bool  #: no worker has begun it
    worker: str  #: its hostname, which in the lab is the worker's name
    pid: int | None  #: of its process
    started: float  #: seconds since the epoch
    heartbeat: float | None


def pending(job_id: int) -> dict[TaskInstanceKey, Instance]:
    """Return the tasks that the scheduler of this job has queued, and that have not ended."""
    columns = (
        TaskInstance.dag_id,
        TaskInstance.task_id,
        TaskInstance.run_id,
        TaskInstance.try_number,
        TaskInstance.map_index,
        TaskInstance.id,
        TaskInstance.state,
        TaskInstance.hostname,
        TaskInstance.pid,
        TaskInstance.start_date,
        TaskInstance.last_heartbeat_at,
    )
    wanted = TaskInstance.state.in_([TaskInstanceState.QUEUED, *HELD])
    with create_session() as session:
        rows = session.execute(select(*columns).where(wanted, TaskInstance.queued_by_job_id == job_id)).all()
    return {
        TaskInstanceKey(row.dag_id, row.task_id, row.run_id, row.try_number, row.map_index): Instance(
            id=row.id,
            queued=row.state == TaskInstanceState.QUEUED,
            worker=row.hostname or "",
            pid=row.pid,
            started=row.start_date.timestamp() if row.start_date else 0.0,
            heartbeat=row.last_heartbeat_at.timestamp() if row.last_heartbeat_at else None,
        )
        for row in rows
    }


def is_anyone_silent(job_id: int, seconds: float) -> bool:
    """Return whether one of the scheduler's tasks has not reported for so long."""
    limit = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    late = (TaskInstance.state.in_(HELD), TaskInstance.queued_by_job_id == job_id, TaskInstance.last_heartbeat_at < limit)
    with create_session() as session:
        return bool(session.scalar(select(func.count()).select_from(TaskInstance).where(*late)))


def renew(silence: Mapping[str, float]) -> None:
    """Let the latest report of tasks, by id, be as old as the seconds given: nobody listened before."""
    now = datetime.now(timezone.utc)
    with create_session() as session:
        for identifier, seconds in silence.items():
            moment = now - timedelta(seconds=seconds)
            session.execute(
                update(TaskInstance)
                .where(TaskInstance.id == identifier, TaskInstance.state.in_(HELD), TaskInstance.last_heartbeat_at < moment)
                .values(last_heartbeat_at=moment)
                .execution_options(synchronize_session=False)
            )


def send_again(tasks: Mapping[TaskInstanceKey, str], reason: str) -> set[TaskInstanceKey]:
    """Let the scheduler queue tasks anew, given with their ids, as the same try; return those that were waiting still."""
    tries = [(identifier, key.try_number) for key, identifier in tasks.items()]
    with create_session() as session:
        changed = set(
            session.scalars(
                update(TaskInstance)
                .where(tuple_(TaskInstance.id, TaskInstance.try_number).in_(tries), TaskInstance.state == TaskInstanceState.QUEUED)
                .values(state=TaskInstanceState.SCHEDULED, queued_dttm=None, queued_by_job_id=None, external_executor_id=None)
                .returning(TaskInstance.id)
                .execution_options(synchronize_session=False)
            )
        )
        waited = {key for key, identifier in tasks.items() if identifier in changed}
        session.add_all(Log(event="message lost", task_instance=key, extra=reason) for key in waited)
    return waited


def note(key: TaskInstanceKey, event: str, reason: str) -> None:
    """Write a line into Airflow's log of events."""
    with create_session() as session:
        session.add(Log(event=event, task_instance=key, extra=reason))


def end_jobs(ended: Mapping[str, float | None], own: int) -> int:
    """Mark the jobs of processes that have ended, as Airflow does when they have been silent for long; return how many.

    `ended` has the names of processes, each with the moment (seconds since the epoch) before which its jobs have ended,
    None for all of them. What such a job had is then taken over at once: a scheduler's tasks, a triggerer's triggers.
    """
    count = 0
    with create_session() as session:
        for name, moment in ended.items():
            theirs = [Job.hostname == name, Job.state == "running", Job.id != own]
            if moment is not None:
                theirs.append(Job.start_date < datetime.fromtimestamp(moment, timezone.utc))
            done = session.scalars(
                update(Job)
                .where(*theirs)
                .values(state="failed", end_date=datetime.now(timezone.utc))
                .returning(Job.id)
                .execution_options(synchronize_session=False)
            )
            count += len(done.all())
    return count
