"""A task for a queue that no worker listens to."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(schedule=None)
def nobody_listens() -> None:
    @task(queue="nowhere")
    def wait_for_a_worker() -> None:
        print("a worker came")

    wait_for_a_worker()


nobody_listens()
