from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.backends.database.models import Task
from celery.backends.database.session import ResultModelBase
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from airflow_celery_lab.inside_airflow.result_backend import IDLE, Sessions

URL = "postgresql+psycopg2://nobody@localhost:1/none"


def test_a_slot_writes_over_one_connection_and_makes_its_engine_once() -> None:
    sessions = Sessions()

    engine = sessions.writer(URL, echo=False)

    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.size() == 1
    assert sessions.writer(URL, echo=False) is engine


def test_a_forked_process_does_not_use_the_connections_of_its_parent() -> None:
    sessions = Sessions()
    parents = sessions.writer(URL)

    pid = os.fork()
    if pid == 0:
        os._exit(sessions.writer(URL) is parents)

    assert os.waitpid(pid, 0)[1] == 0
    assert sessions.writer(URL) is parents


@pytest.fixture
def alarm() -> Iterator[None]:
    """Leave SIGALRM as it was."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarm")
def test_an_idle_connection_waits_for_its_end_in_the_slot_and_not_in_its_task() -> None:
    sessions = Sessions()
    sessions.close_when_idle()
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= IDLE

    pid = os.fork()
    if pid == 0:
        os._exit(signal.getitimer(signal.ITIMER_REAL)[0] != 0 or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL)

    assert os.waitpid(pid, 0)[1] == 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    sessions.writer(URL)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.usefixtures("alarm")
def test_an_alarm_of_the_users_stays_the_users() -> None:
    sessions = Sessions()
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1000)

    sessions.writer(URL)
    sessions.close_when_idle()

    assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    assert signal.getitimer(signal.ITIMER_REAL)[0] > IDLE


def test_a_scheduler_keeps_its_connection_in_a_new_engine() -> None:
    sessions = Sessions()
    before = sessions.get_engine(URL)

    sessions.keep_connection(URL)

    assert sessions.get_engine(URL) is not before
    assert isinstance(sessions.get_engine(URL).pool, QueuePool)
    assert sessions.get_engine(URL) is sessions.get_engine(URL)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("options", [{"pool_size": 5}, {"max_overflow": 0}, {"pool_recycle": 60, "pool_timeout": 3}])
def test_a_pool_that_the_user_sizes_is_the_users(options: dict[str, int]) -> None:
    sessions = Sessions()

    pool = sessions.writer(URL, **options).pool
    sessions.close_when_idle()

    assert isinstance(pool, QueuePool)
    assert pool.size() == 5
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


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
