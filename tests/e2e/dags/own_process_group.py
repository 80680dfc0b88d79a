"""A task whose work goes on in a process group, and in a session, of its own: what a lab must still end."""

from __future__ import annotations

import os
import subprocess
import time

from airflow.sdk import Param, dag, get_current_context, task


@dag(schedule=None, params={"seconds": Param(60, type="number")})
def own_process_group() -> None:
    @task(retries=5, retry_delay=1)
    def escape() -> None:
        subprocess.Popen(["sleep", "60"], preexec_fn=os.setpgrp)  # noqa: PLW1509  # no threads here; process_group= came with Python 3.11
        subprocess.Popen(["sleep", "60"], start_new_session=True)
        time.sleep(get_current_context()["params"]["seconds"])

    escape()


own_process_group()
