"""Breaks something under load, and measures what it cost: time, lost tasks, repeated tasks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from airflow_celery_lab.cluster import runs, trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.errors import LabError, NotReadyError, UnknownExperimentError
from airflow_celery_lab.experiments import ledger
from airflow_celery_lab.experiments.ledger import Balance
from airflow_celery_lab.wait import wait_until

#: The load is a run of this DAG, over so many workers of the line `worker-default`.
DAG, WORKERS = "ledger", 3
LOAD = {"tasks": 60, "seconds": 1.0}
#: The same number of tasks that wait with the triggerer, for longer than all of them take to get there.
DEFERRED = {"tasks": 60, "seconds": 15.0, "defer": True}
#: The fault comes when so many tasks have started.
STARTED = 15
#: Seconds for which a worker is paused: longer than `[scheduler] task_instance_heartbeat_timeout`.
PAUSE = 25.0
#: Seconds in which all must be ready, and the run be over, after the fault.
RECOVERY, RUN = 120.0, 240.0


@dataclass(frozen=True)
class Fault:
    """One way to break the lab."""

    name: str
    inject: Callable[[Cluster], None]
    load: Mapping[str, Any] = field(default_factory=lambda: LOAD)


@dataclass(frozen=True)
class Trial:
    """What one fault cost once."""

    fault: str
    recovered: float | None  #: seconds until all was ready again, None if it never was
    state: str  #: of the DAG run
    balance: Balance


@dataclass(frozen=True)
class Row:
    """What one fault cost in all its trials."""

    fault: str
    trials: int
    recovered: int
    median: float | None  #: seconds to recover
    maximum: float | None
    tasks: int
    lost: int
    repeated: int


def _kill(name: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.kill(name)

    return inject


def _restart(name: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.stop([name])
        cluster.supervisor.launch([name])

    return inject


def _pause(name: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.pause(name)
        time.sleep(PAUSE)  # The fault itself: a machine that hangs for this long.
        cluster.resume(name)

    return inject


def _kill_supervisor(cluster: Cluster) -> None:
    processes = cluster.supervisor.processes
    os.kill(cluster.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: "processes are left" if cluster.records else None, 15, "the end of all processes")
    cluster.supervisor.start(processes, os.environ)


def _power_loss(cluster: Cluster) -> None:
    processes = cluster.supervisor.processes
    victims = [cluster.supervisor.pid]
    for record in cluster.records.values():
        victims += trees.pids(record)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    wait_until(lambda: "processes are left" if cluster.records else None, 15, "the end of all processes")
    cluster.supervisor.start(processes, os.environ)


FAULTS: tuple[Fault, ...] = (
    Fault("kill-worker", _kill("worker-default")),
    Fault("pause-worker", _pause("worker-default")),
    Fault("kill-redis", _kill("redis")),
    Fault("restart-redis", _restart("redis")),
    Fault("kill-postgres", _kill("postgres")),
    Fault("restart-postgres", _restart("postgres")),
    Fault("kill-scheduler", _kill("scheduler")),
    Fault("kill-webserver", _kill("webserver")),
    Fault("kill-dag-processor", _kill("dag-processor")),
    Fault("kill-triggerer", _kill("triggerer"), DEFERRED),
    Fault("kill-supervisord", _kill_supervisor),
    Fault("power-loss", _power_loss),
)


def chosen(names: Sequence[str]) -> list[Fault]:
    """Return the faults of these names, all of them for none.

    Raises:
        UnknownExperimentError: there is no such fault.

    """
    by_name = {fault.name: fault for fault in FAULTS}
    if unknown := [name for name in names if name not in by_name]:
        raise UnknownExperimentError(f"there is no fault {unknown[0]!r}; there is: {', '.join(by_name)}.")
    return [by_name[name] for name in names] or list(FAULTS)


def run(cluster: Cluster, selected: Sequence[Fault], count: int) -> Iterator[Trial]:
    """Run each fault `count` times under load, and put the lab right again after each.

    Raises:
        NotReadyError: the lab did not recover, so that more trials would mean nothing.

    """
    before = cluster.supervisor.processes
    cluster.scale({"worker-default": WORKERS})
    cluster.wait_until_ready()
    try:
        for fault in selected:
            for _ in range(count):
                yield _trial(cluster, fault)
    finally:
        cluster.supervisor.apply(before)


def summary(done: Sequence[Trial]) -> list[Row]:
    """Return a row for each fault, in the order of its first trial."""
    rows = []
    for name in dict.fromkeys(trial.fault for trial in done):
        own = [trial for trial in done if trial.fault == name]
        times = [trial.recovered for trial in own if trial.recovered is not None]
        rows.append(
            Row(
                fault=name,
                trials=len(own),
                recovered=sum(trial.recovered is not None and trial.state == "success" for trial in own),
                median=round(median(times), 1) if times else None,
                maximum=round(max(times), 1) if times else None,
                tasks=sum(trial.balance.tasks for trial in own),
                lost=sum(len(trial.balance.lost) for trial in own),
                repeated=sum(trial.balance.repeated for trial in own),
            )
        )
    return rows


def _trial(cluster: Cluster, fault: Fault) -> Trial:
    run_id = cluster.trigger(DAG, fault.load)
    wait_until(lambda: _early(cluster, run_id), RUN, f"the load of {fault.name}", interval=0.2)
    fault.inject(cluster)
    began = time.monotonic()
    expected = procfile.services_of(cluster.supervisor.processes)
    recovered: float | None = None
    with suppress(NotReadyError):
        cluster.wait_until_ready(RECOVERY, expected)
        recovered = time.monotonic() - began
    with suppress(NotReadyError):
        wait_until(lambda: _unfinished(cluster, run_id), RUN, f"the run of {fault.name}", interval=1.0)
    return Trial(fault.name, recovered, cluster.api.run_state(DAG, run_id), _balance(cluster, run_id, fault.load))


def _early(cluster: Cluster, run_id: str) -> str | None:
    started = sum(entry.event == "start" for entry in ledger.read(cluster.lab.state.ledger(run_id)))
    return None if started >= STARTED else f"{started} of {STARTED} tasks have started"


def _unfinished(cluster: Cluster, run_id: str) -> str | None:
    try:
        state = cluster.api.run_state(DAG, run_id)
    except LabError as error:
        return str(error)
    return None if state in runs.FINAL else f"it is {state}"


def _balance(cluster: Cluster, run_id: str, load: Mapping[str, Any]) -> Balance:
    tasks = [task for task in cluster.look(DAG, run_id).tasks if task.map_index >= 0]
    states = {task.map_index: task.state for task in tasks}
    # A first try has no others beside it.
    successes = {
        task.map_index: int(task.state == "success")
        if task.try_number == 1
        else ledger.successful_tries(cluster.api.tries(DAG, run_id, task.task_id, task.map_index))
        for task in tasks
    }
    return ledger.balance(load["tasks"], ledger.read(cluster.lab.state.ledger(run_id)), states, successes)
