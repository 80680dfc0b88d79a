from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from celery.backends.database.models import Task
from celery.backends.database.session import ResultModelBase
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool

from airflow_celery_lab.inside_airflow.result_backend import Sessions

URL = "postgresql+psycopg2://nobody@localhost:1/none"


def test_a_slots_connection_is_closed_after_use_and_its_engine_is_made_once() -> None:
    sessions = Sessions()

    engine = sessions.get_engine(URL, pool_pre_ping=True)

    assert isinstance(engine.pool, NullPool)
    assert sessions.get_engine(URL, pool_pre_ping=True) is engine


def test_a_slot_does_not_use_the_connections_of_the_process_that_it_was_forked_from() -> None:
    sessions = Sessions()
    parents = sessions.get_engine(URL)

    sessions._after_fork()

    assert sessions.get_engine(URL) is not parents


def test_a_scheduler_keeps_its_connection_in_a_new_engine() -> None:
    sessions = Sessions()
    before = sessions.get_engine(URL)

    sessions.keep_connection(URL)

    assert sessions.get_engine(URL) is not before
    assert isinstance(sessions.get_engine(URL).pool, QueuePool)


@pytest.mark.parametrize("options", [{"pool_size": 5}, {"max_overflow": 0}, {"pool_recycle": 60, "pool_timeout": 3}])
def test_a_pool_that_the_user_sizes_is_the_users(options: dict[str, int]) -> None:
    assert isinstance(Sessions().get_engine(URL, **options).pool, QueuePool)


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


def test_a_result_is_read_as_data_and_runs_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    error = {"exc_type": "ValueError", "exc_message": ("no",), "exc_module": "builtins"}
    engine = create_engine("sqlite://")
    ResultModelBase.metadata.create_all(engine)
    with Session(engine) as session:
        for name, result in (("none", None), ("error", error)):
            task = Task(name)
            task.result = result
            session.add(task)
        session.flush()
        for name, data in (("evil", pickle.dumps(Command(f"touch {ran}"))), ("cut", b"\x80")):
            session.execute(text("INSERT INTO celery_taskmeta (task_id, result) VALUES (:name, :data)"), {"name": name, "data": data})
        found = {task.task_id: task.result for task in session.query(Task)}
    engine.dispose()

    assert found == {"none": None, "error": error, "evil": None, "cut": None}
    assert not ran.exists()
