"""Eight tasks that do nothing, one after the other."""

from __future__ import annotations

from airflow.sdk import chain, dag, task


@dag(schedule=None)
def noop_chain() -> None:
    """Run eight tasks."""

    @task
    def noop() -> None:
        pass

    chain(*[noop.override(task_id=f"noop_{number}")() for number in range(8)])


noop_chain()
