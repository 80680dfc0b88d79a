"""Four tasks at once: a, b, c and d overlap when a worker has four free slots."""

from __future__ import annotations

import time

from airflow.sdk import dag, task


@dag(schedule=None, tags=["lab"], default_args={"retries": 2, "retry_delay": 1})
def parallel_tasks() -> None:
    """Run `a`, `b`, `c` and `d`, none of which waits for another."""
    for name in "abcd":

        @task(task_id=name)
        def sleep(seconds: float = 3.0) -> None:
            time.sleep(seconds)

        sleep()


parallel_tasks()
