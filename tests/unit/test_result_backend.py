from __future__ import annotations

import pytest
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
