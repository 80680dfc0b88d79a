"""A long task that survives its worker: kill the worker while it runs, and watch it start elsewhere."""

from __future__ import annotations

import time

from airflow.sdk import Param, dag, get_current_context, task


@dag(schedule=None, tags=["lab"], params={"seconds": Param(60, type="number", minimum=0)})
def worker_loss() -> None:
    """Count for `seconds` seconds; a lost try is followed by another one, at once."""

    @task(retries=5, retry_delay=1)
    def count() -> None:
        context = get_current_context()
        for second in range(int(context["params"]["seconds"])):
            print(f"try {context['ti'].try_number}, second {second}")
            time.sleep(1)

    count()


worker_loss()
