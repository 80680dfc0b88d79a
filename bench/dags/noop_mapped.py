"""One task that does nothing, mapped 100 times."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def noop_mapped() -> None:
    """Run 100 tasks."""

    @task
    def noop(number: int) -> None:
        pass

    noop.expand(number=list(range(100)))


noop_mapped()
