"""Many waits that take no worker slot: each is handed to the triggerer, which waits for all of them."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import dag


@dag(schedule=None, tags=["lab"], default_args={"retries": 2, "retry_delay": 1})
def deferred_wait() -> None:
    """Wait 20 times 10 seconds, which takes a little over 10 seconds in all."""
    for number in range(20):
        TimeDeltaSensor(task_id=f"wait_{number}", delta=timedelta(seconds=10), deferrable=True)


deferred_wait()
