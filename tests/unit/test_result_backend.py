from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from celery.backends.database.models import Task
from celery.backends.database.session import ResultModelBase
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from airflow_celery_lab.inside_airflow.result_backend import Sessions

URL = "postgresql+psycopg2://nobody@localhost:1/none"


def test_a_slot_has_one_connection_and_makes_its_engine_once() -> None:
    sessions = Sessions()

    engine = sessions.get_engine(URL, echo=False)

    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.size() == 1
    assert sessions.get_engine(URL, echo=False) is engine


def test_a_forked_process_does_not_use_the_connections_of_its_parent() -> None:
    sessions = Sessions()
    parents = sessions.get_engine(URL)

    pid = os.fork()
    if pid == 0:
        os._exit(sessions.get_engine(URL) is parents)

    assert os.waitpid(pid, 0)[1] == 0
    assert sessions.get_engine(URL) is parents


def test_no_thread_waits_for_an_idle_connection_while_the_process_forks() -> None:
    sessions = Sessions()
    sessions.get_engine(URL)
    alone = threading.active_count()
    sessions.close_when_idle()
    assert threading.active_count() == alone + 1

    pid = os.fork()
    if pid == 0:
        # Python 3.12 and later warn of a fork beside a thread.
        os._exit(threading.active_count() != alone or len(os.listdir("/proc/self/task")) != 1)

    assert os.waitpid(pid, 0)[1] == 0
    assert threading.active_count() == alone + 1
    sessions.stop_waiting()
    assert threading.active_count() == alone


def test_a_scheduler_keeps_its_connection_in_a_new_engine() -> None:
    sessions = Sessions()
    before = sessions.get_engine(URL)

    sessions.keep_connection(URL)

    assert sessions.get_engine(URL) is not before
    assert isinstance(sessions.get_engine(URL).pool, QueuePool)


@pytest.mark.parametrize("options", [{"pool_size": 5}, {"max_overflow": 0}, {"pool_recycle": 60, "pool_timeout": 3}])
def test_a_pool_that_the_user_sizes_is_the_users(options: dict[str, int]) -> None:
    sessions, alone = Sessions(), threading.active_count()

    pool = sessions.get_engine(URL, **options).pool
    sessions.close_when_idle()

    assert isinstance(pool, QueuePool)
    assert pool.size() == 5
    assert threading.active_count() == alone


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
