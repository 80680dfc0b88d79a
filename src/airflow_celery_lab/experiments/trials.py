"""Breaks something under load, and measures what it cost: time, lost tasks, repeated tasks."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple

from airflow_celery_lab.cluster import faults, journal, runs, trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import links, procfile, roots
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.links import CLEAN, Condition
from airflow_celery_lab.errors import LabError, NotReadyError
from airflow_celery_lab.experiments import ledger
from airflow_celery_lab.experiments.ledger import Balance, Entry
from airflow_celery_lab.experiments.published import Published
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.wait import wait_until

#: The load is a run of this DAG, over so many workers of the line `worker-default`.
DAG, WORKERS = "ledger", 2
#: Short tasks, which would be missed at once if they were lost.
SHORT = {"tasks": 60, "seconds": 1.0}
#: Beside them some that a false alarm would end: they have one try.
LONG = {"long": 4, "long_seconds": 60.0}
#: Short tasks that wait with the triggerer, for longer than all of them take to get there.
DEFERRED = {"tasks": 60, "seconds": 15.0, "defer": True}
#: The fault comes when so many tasks have started.
STARTED = 15
#: Seconds for which one process is paused, and for which all are.
PAUSE, STANDSTILL = 60.0, 120.0
#: Seconds for which the machine seems to have slept: twice Airflow's heartbeat timeout.
SLEEP = 600
#: The worker that is broken.
VICTIM = "worker-default-2"
#: Seconds in which all must be ready, and the run be over, after the fault.
RECOVERY, RUN = 120.0, 420.0


class Cut(NamedTuple):
    """What a fault has cut off."""

    moment: float  #: seconds since the epoch
    tasks: Collection[int] | None = None  #: that must run anew, where the ledger cannot say


@dataclass(frozen=True)
class Fault:
    """One way to break the lab."""

    name: str
    inject: Callable[[Cluster], Cut | None]  #: returns nothing where it broke something at once
    load: Mapping[str, Any]
    takes_minutes: bool = False
    linked: bool = False  #: workers reach their servers through links, which it spoils


@dataclass(frozen=True)
class Trial:
    """What one fault cost once."""

    fault: str
    recovered: float | None  #: seconds until all was ready again, None if it never was
    state: str  #: of the DAG run
    balance: Balance
    again: Sequence[float] = ()  #: seconds from the fault until each task that it cut off ran again


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
    again: int  #: tasks that the fault cut off, and that ran again
    again_median: float | None  #: seconds from the fault until they did
    again_maximum: float | None


def _kill(name: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.kill(name)

    return inject


def _kill_busy_worker(cluster: Cluster) -> Cut:
    path = cluster.lab.state.ledger(_latest(cluster))

    def idle() -> str | None:
        running = {entry.task for entry in ledger.read(path) if entry.worker == VICTIM and entry.event == "start"}
        return None if running - {entry.task for entry in ledger.read(path) if entry.event == "finish"} else f"{VICTIM} runs nothing"

    wait_until(idle, 30, f"a task on {VICTIM}", interval=0.01)
    moment = time.time()
    cluster.kill(VICTIM)
    return Cut(moment)


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
    everything = _everything(cluster)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        faults.send(everything, number)
    wait_until(lambda: "processes are left" if cluster.records else None, 15, "the end of all processes")
    cluster.supervisor.start(processes, os.environ)


def _kill_early_worker(cluster: Cluster) -> Cut:
    """Kill a worker at a moment when it has taken messages whose tasks have not begun."""
    path = cluster.lab.state.ledger(_latest(cluster))

    def begun() -> set[int]:
        return {entry.task for entry in ledger.read(path)}

    def taken() -> set[int]:
        found = (re.search(r"\.entry\[(\d+)\] ", json.dumps(task)) for task in cluster.broker.taken(VICTIM))
        return {int(match[1]) for match in found if match} - begun()

    wait_until(lambda: None if taken() else f"{VICTIM} has begun all that it has taken", 30, "a task that is taken", interval=0.01)
    tasks, moment = taken(), time.time()
    cluster.kill(VICTIM)
    return Cut(moment, tasks - begun())


def _lose_messages(cluster: Cluster) -> Cut:
    """Kill Redis with two seconds of its work not on disk, as a machine that crashes does."""
    run_id = _latest(cluster)
    cluster.broker.redis.config_set("appendonly", "no")
    time.sleep(2)  # The fault itself.
    moment = time.time()
    cluster.kill("redis")
    begun = {entry.task for entry in ledger.read(cluster.lab.state.ledger(run_id))}
    queued = {task.map_index for task in cluster.look(DAG, run_id).tasks if task.task_id == "entry" and task.state == "queued"}
    return Cut(moment, queued - begun)


def _hang_worker(cluster: Cluster) -> Cut:
    """Pause a worker until its tasks have run elsewhere: Airflow gives them up after 300 s."""
    run_id = _latest(cluster)
    moment = time.time()
    cluster.pause(VICTIM)
    with suppress(NotReadyError):
        wait_until(lambda: _unfinished(cluster, run_id), RUN, "the run", interval=1.0)
    cluster.resume(VICTIM)
    return Cut(moment)


def _stand_still(cluster: Cluster) -> None:
    everything = _everything(cluster)
    faults.send(everything, signal.SIGSTOP)
    time.sleep(STANDSTILL)  # The fault itself.
    faults.send(everything, signal.SIGCONT)


def sleep(cluster: Cluster) -> None:
    """Let the machine have slept, as far as Airflow can see: the latest report of each running task is ten minutes older."""
    import psycopg2

    url = wiring(cluster.lab)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", "")
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE task_instance SET last_heartbeat_at = last_heartbeat_at - make_interval(secs => %s) WHERE state = 'running'", (SLEEP,)
        )
    connection.close()


def _stop(name: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.stop([name])
        time.sleep(PAUSE)  # The fault itself.
        cluster.supervisor.launch([name])

    return inject


def _cut(server: str) -> Callable[[Cluster], None]:
    def inject(cluster: Cluster) -> None:
        cluster.set_links([server], Condition(cut=True))
        time.sleep(PAUSE)  # The fault itself.
        cluster.set_links([server], CLEAN)

    return inject


def _latest(cluster: Cluster) -> str:
    return str(cluster.api.pages(f"/dags/{DAG}/dagRuns", "dag_runs")[-1]["dag_run_id"])


def _everything(cluster: Cluster) -> list[int]:
    return [cluster.supervisor.pid, *(pid for record in cluster.records.values() for pid in trees.pids(record))]


WITH_LONG: Mapping[str, Any] = {**SHORT, **LONG}
#: Long enough to run before an outage of the api-server, during it and after it.
WITH_LONGER: Mapping[str, Any] = {**SHORT, **LONG, "long_seconds": 90.0}
FAULTS: tuple[Fault, ...] = (
    Fault("kill-worker", _kill_busy_worker, SHORT),
    Fault("kill-early-worker", _kill_early_worker, SHORT),
    Fault("pause-worker", _pause(VICTIM), WITH_LONG, takes_minutes=True),
    Fault("hang-worker", _hang_worker, SHORT, takes_minutes=True),
    Fault("kill-redis", _kill("redis"), WITH_LONG),
    Fault("lose-messages", _lose_messages, WITH_LONG),
    Fault("restart-redis", _restart("redis"), WITH_LONG),
    Fault("kill-postgres", _kill("postgres"), WITH_LONG),
    Fault("restart-postgres", _restart("postgres"), WITH_LONG),
    Fault("kill-scheduler", _kill("scheduler"), WITH_LONG),
    Fault("kill-webserver", _kill("webserver"), WITH_LONG),
    Fault("pause-webserver", _pause("webserver"), WITH_LONGER, takes_minutes=True),
    Fault("stop-webserver", _stop("webserver"), WITH_LONGER, takes_minutes=True),
    Fault("kill-dag-processor", _kill("dag-processor"), WITH_LONG),
    Fault("kill-triggerer", _kill("triggerer"), {**DEFERRED, **LONG}),
    Fault("kill-supervisord", _kill_supervisor, SHORT),
    Fault("power-loss", _power_loss, SHORT),
    Fault("stand-still", _stand_still, WITH_LONG, takes_minutes=True),
    Fault("sleep", sleep, WITH_LONG, takes_minutes=True),
    Fault("cut-redis", _cut("redis"), WITH_LONGER, takes_minutes=True, linked=True),
    Fault("cut-postgres", _cut("postgres"), WITH_LONGER, takes_minutes=True, linked=True),
    Fault("cut-webserver", _cut("webserver"), WITH_LONGER, takes_minutes=True, linked=True),
)


def shortened(selected: Sequence[Fault]) -> list[Fault]:
    """Return the faults without what takes minutes, those that last and the long tasks beside the others, and under half of the load."""
    return [
        replace(fault, load={**fault.load, "tasks": fault.load["tasks"] // 2, "long": 0}) for fault in selected if not fault.takes_minutes
    ]


def run(cluster: Cluster, dags: Published, selected: Sequence[Fault], count: int) -> Iterator[Trial]:
    """Run each fault `count` times under load, and put the lab right again after each.

    The load is the user's DAG `ledger`, or, where there is none, the lab's, put among `dags`.

    Raises:
        NotReadyError: the lab did not recover, so that more trials would mean nothing.

    """
    before, carried = cluster.supervisor.processes, cluster.links().on
    cluster.scale({"worker-default": WORKERS})
    cluster.wait_until_ready()
    try:
        if DAG not in cluster.api.dag_ids():  # The user has other DAGs than those of the lab.
            dags.put(DAG, (roots.DATA / "dags" / f"{DAG}.py").read_text(encoding="utf-8"))
        for fault in selected:
            _link(cluster, carries=fault.linked or carried)
            for _ in range(count):
                yield _trial(cluster, fault)
    finally:
        cluster.supervisor.apply(wanted.beside(cluster.supervisor.processes, before))
        _link(cluster, carries=carried)


def _link(cluster: Cluster, *, carries: bool) -> None:
    """Let workers go through clean links, or not."""
    if carries:
        cluster.carry_links()
        cluster.set_links(links.SERVERS, CLEAN)
        cluster.renew(cluster.astray())
    elif cluster.links().ports:
        cluster.drop_links()


def summary(done: Sequence[Trial]) -> list[Row]:
    """Return a row for each fault, in the order of its first trial."""
    rows = []
    for name in dict.fromkeys(trial.fault for trial in done):
        own = [trial for trial in done if trial.fault == name]
        times = [trial.recovered for trial in own if trial.recovered is not None]
        again = [seconds for trial in own for seconds in trial.again]
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
                again=len(again),
                again_median=round(median(again), 1) if again else None,
                again_maximum=round(max(again), 1) if again else None,
            )
        )
    return rows


def _trial(cluster: Cluster, fault: Fault) -> Trial:
    run_id = cluster.trigger(DAG, fault.load)
    wait_until(lambda: _early(cluster, run_id), RUN, f"the load of {fault.name}", interval=0.2)
    now = time.time()
    journal.note(cluster.lab.state, "experiment", [fault.name])
    cut = fault.inject(cluster) or Cut(now)
    began = time.monotonic()
    expected = procfile.services_of(cluster.supervisor.processes)
    recovered: float | None = None
    with suppress(NotReadyError):
        cluster.wait_until_ready(RECOVERY, expected)
        recovered = time.monotonic() - began
    with suppress(NotReadyError):
        wait_until(lambda: _unfinished(cluster, run_id), RUN, f"the run of {fault.name}", interval=1.0)
    entries = ledger.read(cluster.lab.state.ledger(run_id))
    again = ledger.again(entries, cut.moment, cut.tasks)
    return Trial(fault.name, recovered, cluster.api.run_state(DAG, run_id), _balance(cluster, run_id, fault.load, entries), again)


def _early(cluster: Cluster, run_id: str) -> str | None:
    started = sum(entry.event == "start" for entry in ledger.read(cluster.lab.state.ledger(run_id)))
    return None if started >= STARTED else f"{started} of {STARTED} tasks have started"


def _unfinished(cluster: Cluster, run_id: str) -> str | None:
    try:
        state = cluster.api.run_state(DAG, run_id)
    except LabError as error:
        return str(error)
    return None if state in runs.FINAL else f"it is {state}"


def _balance(cluster: Cluster, run_id: str, load: Mapping[str, Any], entries: Sequence[Entry]) -> Balance:
    first = {"entry": 0, "long": load["tasks"]}
    tasks = {
        first[task.task_id] + task.map_index: task
        for task in cluster.look(DAG, run_id).tasks
        if task.task_id in first and task.map_index >= 0
    }
    states = {number: task.state for number, task in tasks.items()}
    # A first try has no others beside it.
    successes = {
        number: int(task.state == "success")
        if task.try_number == 1
        else ledger.successful_tries(cluster.api.tries(DAG, run_id, task.task_id, task.map_index))
        for number, task in tasks.items()
    }
    return ledger.balance(load["tasks"] + load.get("long", 0), entries, states, successes)
