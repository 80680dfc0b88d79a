"""Runs `python -m airflow_celery_lab` many times, each in a process of its own that has other people's packages imported already.

Reads a request a line on standard input, as JSON, and answers with a line that holds the exit status.
The lab's own modules are imported anew for each, from the checkout that the request names.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
from typing import Any, NoReturn

import celery
import httpx
import psutil
import redis
import rich.live
import rich.table
import typer

#: Seconds after which a command that should have ended is ended; exec keeps the alarm.
PATIENCE = 30
PRELOADED = (celery.Celery, httpx.Client, psutil.Process, redis.Redis, rich.live.Live, rich.table.Table, typer.Typer)


def become(request: dict[str, Any]) -> NoReturn:
    """Be `python -m airflow_celery_lab` from here on."""
    signal.alarm(PATIENCE)
    os.setsid()
    for number, (name, flags) in enumerate(
        ((request["stdin"], os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY))
    ):
        os.dup2(os.open(name, flags), number)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["project"])
    sys.path.insert(0, f"{request['project']}/src")
    sys.argv = ["airflow_celery_lab", *request["arguments"]]
    sys.stdin = os.fdopen(os.dup(0))  # The old one holds requests for later.
    status = 1
    try:
        runpy.run_module("airflow_celery_lab", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        if (pid := os.fork()) == 0:
            become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
