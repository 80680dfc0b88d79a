"""A task whose work goes on in a process group, and in a session, of its own: what a lab must still end."""

from __future__ import annotations

import os
import subprocess
import time

from airflow.sdk import Param, dag, get_current_context, task


@dag(schedule=None, params={"seconds": Param(60, type="number"), "child": "60s"})
def own_process_group() -> None:
    @task(retries=5, retry_delay=1)
    def escape() -> None:
        params = get_current_context()["params"]
        child = ["sleep", params["child"]]
        subprocess.Popen(child, preexec_fn=os.setpgrp)  # noqa: PLW1509  # no threads here; process_group= came with Python 3.11
        subprocess.Popen(child, start_new_session=True)
        time.sleep(params["seconds"])

    escape()


own_process_group()
