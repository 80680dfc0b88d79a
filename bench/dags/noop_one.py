"""One task that does nothing."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def noop_one() -> None:
    """Run one task."""

    @task
    def noop() -> None:
        pass

    noop()


noop_one()
