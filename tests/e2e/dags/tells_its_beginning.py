"""Tasks that last for a moment, and say when their processes read this file, which is soon after they can have said anything."""

from __future__ import annotations

import time

from airflow.sdk import dag, task

BEGINNING = time.time()


@dag(schedule=None)
def tells_its_beginning() -> None:
    @task
    def tell(seconds: float) -> float:
        time.sleep(seconds)
        return BEGINNING

    tell.expand(seconds=[0.3] * 8)


tells_its_beginning()
