"""A DAG for a breakpoint, and logs to read."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def stops() -> None:
    @task(queue="high_cpu")
    def double(number: int) -> int:
        doubled = number * 2
        print(f"{number} doubled is {doubled}")
        return doubled

    @task
    def add(numbers: list[int]) -> int:
        total = sum(numbers)
        return total  # noqa: RET504  # A line to stop at.

    add(double.expand(number=[3, 4]))  # type: ignore[arg-type]  # Airflow passes the values themselves


stops()
