"""Celery's own pool of processes, scaled down by the lab's autoscaler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery
from celery.concurrency.prefork import TaskPool
from kombu.asynchronous import Hub

from airflow_celery_lab.inside_airflow.slot_autoscaler import Autoscaler
from airflow_celery_lab.wait import wait_until


@pytest.fixture
def pool() -> Iterator[TaskPool]:
    """Four idle processes. Their loop does not run, so that nothing is noticed by chance between two steps of a test."""
    app = Celery(set_as_current=False)
    pool = TaskPool(4, app=app, threads=False, initargs=(app, "here"))
    pool.start()
    pool.register_with_event_loop(Hub())
    yield pool
    pool.terminate()


def test_scaling_down_twice_at_once_ends_no_process_twice(pool: TaskPool) -> None:
    scaler = Autoscaler(pool, max_concurrency=4, min_concurrency=1, keepalive=1e-9)
    scaler.scale_up(0)
    processes = list(pool._pool._pool)

    scaler.scale_down(1)
    scaler.scale_down(2)  # Celery would choose the process that ends already, and one more.
    wait_until(lambda: "it runs" if processes[0].exitcode is None else None, 30, "the end of the process")
    assert pool.num_processes == 3
    assert [process.exitcode for process in processes[1:]] == [None] * 3

    scaler.scale_down(2)
    wait_until(lambda: "they run" if None in [process.exitcode for process in processes[:3]] else None, 30, "the end of two more")
    pool.maintain_pool()
    assert pool.num_processes == len(pool._pool._pool) == 1
