"""100 tasks that do nothing, beside each other in one file."""

from __future__ import annotations

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import dag


@dag(schedule=None)
def noop_tasks() -> None:
    """Run 100 tasks."""
    for number in range(100):
        PythonOperator(task_id=f"noop_{number}", python_callable=lambda: None)


noop_tasks()
