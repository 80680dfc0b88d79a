"""Debugs tasks of a run on a Celery worker of one slot, which is started for that and ends with it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow_celery_lab.cluster import faults, judgement
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.readiness import OnWait, quietly
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import debugger
from airflow_celery_lab.configuration.debugger import Session
from airflow_celery_lab.configuration.suggestion import suggest, there_is
from airflow_celery_lab.errors import AlreadyRunningError, MissingProgramError, NotReadyError, PortTakenError, UnknownTaskError
from airflow_celery_lab.servers import probes
from airflow_celery_lab.wait import wait_until

COMMAND = ("airflow", "celery", "worker", "--queues", debugger.QUEUE, "--concurrency", "1", "--without-mingle")
HOST = "127.0.0.1"


def require_possible(cluster: Cluster, dag_id: str, task_id: str | None, port: int) -> None:
    """Do nothing when tasks of that DAG can be debugged.

    Raises:
        LabError: the lab does not run, there is no such DAG or task, debugpy is missing, or the port is taken.

    """
    cluster.require_running()
    cluster.require_dag(dag_id)
    if importlib.util.find_spec("debugpy") is None:
        raise MissingProgramError("debugpy is not installed in the lab's environment; run `pip install 'airflow-celery-lab[debug]'`.")
    if debugger.NAME in cluster.records:
        raise AlreadyRunningError("a task is debugged already in this lab; end that with Ctrl-C first.", process=debugger.NAME)
    if task_id is not None and task_id not in (known := cluster.api.task_ids(dag_id)):
        raise UnknownTaskError(f"there is no task {task_id!r} in {dag_id}; {suggest(task_id, known, there_is(known))}")
    if probes.port_taken(HOST, port):
        raise PortTakenError(f"another program listens on port {port}; name another one with --port.", port=port)


def run(
    cluster: Cluster,
    session: Session,
    conf: Mapping[str, Any],
    on_change: Callable[[Run], None],
) -> Run:
    """Run a DAG with the session's tasks on the debugger's worker, and return the run when it has ended.

    Raises:
        LabError: Airflow refuses, or has not answered for a minute.

    """
    debugger.begin(cluster.lab.state, session)
    cluster.trigger(session.dag_id, conf, run_id=session.run_id)
    return cluster.follow(session.dag_id, session.run_id, on_change)


def new_session(dag_id: str, task_id: str | None) -> Session:
    """Return a session with a run of its own."""
    return Session(dag_id, f"debug__{uuid.uuid4().hex[:8]}", task_id)


@contextmanager
def worker(cluster: Cluster, port: int, on_wait: OnWait = quietly) -> Iterator[None]:
    """Run the debugger's worker, whose tasks listen on `port`; when the block ends it is killed, with what it runs."""
    environ = cluster.launching({debugger.VARIABLE: str(port)})
    log = cluster.lab.state.process_log(debugger.NAME)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    debugger.end(cluster.lab.state)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow_celery_lab", "exec", *COMMAND],
            cwd=cluster.settings.project,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us.
        )
    try:

        def listens() -> str | None:
            if process.poll() is not None:
                raise NotReadyError(f"the debugger's worker ended with status {process.returncode}; see {log}.", path=log)
            mine = [found for found in cluster.status(details=False).processes if found.name == debugger.NAME]
            return judgement.lacking([found for found in mine if not found.ready]) or (None if mine else "its worker has not begun")

        wait_until(listens, cluster.settings.start_timeout, "the debugger", advice=f"see {log}, or `{typed()} status`", on_wait=on_wait)
        yield
    finally:
        debugger.end(cluster.lab.state)
        if record := cluster.records.get(debugger.NAME):
            with suppress(NotReadyError):
                faults.kill(record, cluster.supervisor)
        process.kill()
        process.wait()
