"""Many short tasks that write down when they start and finish, in a file that survives any crash.

`lab experiment` runs it, breaks something, and compares the ledger with what Airflow says.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from airflow.sdk import Param, dag, get_current_context, task


@dag(
    schedule=None,
    tags=["lab"],
    params={"tasks": Param(60, type="integer", minimum=1), "seconds": Param(1.0, type="number", minimum=0)},
    default_args={"retries": 5, "retry_delay": 1},
)
def ledger() -> None:
    """Append a line at the start and one at the end of each of `tasks` tasks of `seconds` seconds."""

    @task
    def items() -> list[int]:
        return list(range(get_current_context()["params"]["tasks"]))

    @task
    def entry(item: int) -> None:
        instance = get_current_context()["ti"]
        folder = Path(os.environ["AIRFLOW_HOME"]).with_name("ledger")
        folder.mkdir(exist_ok=True)
        # One write to a file opened for appending is never mixed with another, and is on disk after fsync.
        with (folder / f"{instance.run_id}.jsonl").open("ab", buffering=0) as file:
            for event in ("start", "finish"):
                line = {"task": item, "try": instance.try_number, "event": event, "worker": os.environ["LAB_NAME"], "time": time.time()}
                file.write(json.dumps(line).encode() + b"\n")
                os.fsync(file.fileno())
                if event == "start":
                    time.sleep(get_current_context()["params"]["seconds"])

    entry.expand(item=items())


ledger()
