"""A task that fails at once."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def fails() -> None:
    @task
    def fail() -> None:
        raise RuntimeError("on purpose")

    fail()


fails()
