"""Many short tasks that write down when they start and finish, in a file that survives any crash.

`lab experiment` runs it, breaks something, and compares the ledger with what Airflow says.
"""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, Context, Param, dag, get_current_context, task


class Entry(BaseOperator):
    """Writes a line, takes its time in a worker's slot or with the triggerer, and writes another line."""

    def __init__(self, *, item: int, duration: str = "seconds", **options: Any) -> None:
        super().__init__(**options)
        self.item = item
        self.duration = duration

    def execute(self, context: Context) -> None:
        """Begin."""
        self.write("start", context)
        seconds = context["params"][self.duration]
        if context["params"]["defer"]:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=seconds)), method_name="finish")
        time.sleep(seconds)
        self.finish(context)

    def finish(self, context: Context, event: Any = None) -> None:  # noqa: ARG002  # the trigger's, which says nothing more
        """End, perhaps on another worker than the one of the beginning."""
        self.write("finish", context)

    def write(self, event: str, context: Context) -> None:
        """Append a line to the run's ledger."""
        instance = context["ti"]
        folder = Path(os.environ["AIRFLOW_HOME"]).with_name("ledger")
        folder.mkdir(exist_ok=True)
        line = {"task": self.item, "try": instance.try_number, "event": event, "worker": os.environ["LAB_NAME"], "time": time.time()}
        # One write to a file opened for appending is never mixed with another, and is on disk after fsync.
        with (folder / f"{instance.run_id}.jsonl").open("ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")
            os.fsync(file.fileno())


@dag(
    schedule=None,
    tags=["lab"],
    params={
        "tasks": Param(60, type="integer", minimum=1),
        "seconds": Param(1.0, type="number", minimum=0),
        "defer": Param(default=False, type="boolean"),
        "long": Param(0, type="integer", minimum=0),
        "long_seconds": Param(60.0, type="number", minimum=0),
    },
    # No delay: what is measured is how long the cluster takes, not what a DAG waits for on purpose.
    default_args={"retries": 5, "retry_delay": 0},
)
def ledger() -> None:
    """Run `tasks` entries of `seconds` seconds, and beside them `long` ones of `long_seconds`, which have one try each."""

    @task
    def items() -> list[int]:
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def long_items() -> list[int]:
        params = get_current_context()["params"]
        return list(range(params["tasks"], params["tasks"] + params["long"]))

    Entry.partial(task_id="entry").expand(item=items())
    # Short ones cannot see a false alarm. These start first, so that all of them run when something is broken.
    Entry.partial(task_id="long", duration="long_seconds", retries=0, priority_weight=10).expand(item=long_items())


ledger()
