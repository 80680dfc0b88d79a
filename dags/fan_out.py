"""As many tasks of the same length as you ask for: run fan_out --conf '{"tasks": 40, "seconds": 1}'."""

from __future__ import annotations

import time

from airflow.sdk import Param, dag, get_current_context, task


@dag(
    schedule=None,
    tags=["lab"],
    params={
        "tasks": Param(20, type="integer", minimum=1, maximum=1000),
        "seconds": Param(1.0, type="number", minimum=0),
    },
    default_args={"retries": 2, "retry_delay": 1},
)
def fan_out() -> None:
    """Map one task over `tasks` items; each takes `seconds` seconds."""

    @task
    def items() -> list[int]:
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def work(item: int) -> int:
        time.sleep(get_current_context()["params"]["seconds"])
        return item

    work.expand(item=items())


fan_out()
