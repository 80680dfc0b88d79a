"""Runs of a DAG: who ran what, and when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from airflow_celery_lab.cluster import reasons
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.waits import Key, Waits, key
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration.suggestion import suggest, there_is
from airflow_celery_lab.errors import LabError, NotReadyError, NotRunningError, UnknownDagError, UnknownRunError
from airflow_celery_lab.wait import wait_until

#: Seconds in which a new DAG file is live: `[dag_processor] refresh_interval` and its parsing.
NEW_DAG = 15.0
#: Seconds for which Airflow may not answer while a run is watched; killed, the api-server is back in 20.
ABSENCE = 60.0
FINAL = ("success", "failed")
#: States in which a task has ended.
ENDED = (*FINAL, "skipped", "upstream_failed", "removed")
#: Seconds between two looks at a run, and tasks that a sentence names at most.
LOOK, MOST = 0.5, 8


@dataclass(frozen=True)
class Task:
    """One task instance, in its newest try. Times are ISO 8601."""

    task_id: str
    map_index: int  #: -1 for a task that is not mapped
    try_number: int
    state: str | None
    queue: str | None
    worker: str | None
    queued: str | None
    start: str | None
    end: str | None
    #: Seconds in which it could have run, and no worker had taken it. What came before is in it only if it was seen: Airflow
    #: keeps the last wait of a task that was deferred, rescheduled or queued anew.
    waited: float | None = None

    @property
    def name(self) -> str:
        """The task's id, with its index where it is mapped."""
        return reasons.name_of(asdict(self))


@dataclass(frozen=True)
class Run:
    """A DAG run and its task instances, in the order in which they started."""

    dag_id: str
    run_id: str
    state: str
    tasks: list[Task]
    #: Why tasks failed, by their names, as far as the executor, Airflow's events or the tasks' logs tell.
    reasons: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None  #: ISO 8601

    @property
    def succeeded(self) -> bool:
        """Whether it has ended as it should."""
        return self.state == "success"

    def as_json(self) -> dict[str, Any]:
        """Return what `lab run --json` prints."""
        return asdict(self)


def require(api: AirflowApi, dags: Path, dag_id: str) -> None:
    """Do nothing when Airflow knows a DAG. Waits a moment for one that it does not know: its file in the folder `dags` may be new.

    Raises:
        UnknownDagError: there is no such DAG.

    """

    def probe() -> str | None:
        try:
            api.dag(dag_id)
        except UnknownDagError:
            return "Airflow does not know it yet"
        return None

    known = api.dag_ids()
    if dag_id not in known:
        # A file that was put there just now is found soon; a mistyped name is not worth the wait.
        if not _may_appear(dags, dag_id):
            raise _unknown(api, dags, dag_id, known)
        try:
            wait_until(probe, NEW_DAG, dag_id)
        except NotReadyError as error:
            raise _unknown(api, dags, dag_id, known) from error


def find(api: AirflowApi, dags: Path, dag_id: str | None = None, run_id: str | None = None) -> dict[str, Any]:
    """Return a run: the newest one of a DAG where no run is named, and the newest of all where no DAG is.

    Raises:
        UnknownDagError: there is no such DAG.
        UnknownRunError: there is no such run, or none yet.

    """
    try:
        newest = api.newest_run(dag_id or "~")
    except UnknownDagError as error:
        raise _unknown(api, dags, dag_id or "~", api.dag_ids()) from error
    if newest is None:
        raise UnknownRunError(f"{dag_id or 'no DAG'} has {'not ' if dag_id else ''}run yet; `{typed()} run {dag_id or 'DAG'}` runs it.")
    if run_id is None:
        return newest
    try:
        return api.run(newest["dag_id"], run_id)
    except UnknownRunError as error:
        raise UnknownRunError(f"there is no run {run_id!r} of {dag_id}; the newest one is {newest['dag_run_id']}.") from error


def finish(api: AirflowApi, dag_id: str, run_id: str, timeout: float) -> Run:
    """Wait for the end of a run, and return it, however it ended.

    Raises:
        NotReadyError: it has not ended after `timeout` seconds.

    """

    def probe() -> str | None:
        state = api.run_state(dag_id, run_id)
        return None if state in FINAL else f"it is {state}"

    wait_until(probe, timeout, f"the end of {dag_id} {run_id}", interval=0.5)
    return look(api, dag_id, run_id)


class Memory(NamedTuple):
    """What many looks at one run have seen."""

    waits: Waits
    logs: reasons.Known


def look(api: AirflowApi, dag_id: str, run_id: str, memory: Memory | None = None) -> Run:
    """Return the run as it is now."""
    waits, logs = memory or Memory(Waits(), {})
    run = api.run(dag_id, run_id)
    instances = api.task_instances(dag_id, run_id)
    waits.observe(instances, _takes(api, dag_id, run_id) if waits.lacks_events(instances) else {})
    tasks = [task_of(instance, waits) for instance in instances]
    tasks.sort(key=lambda task: (task.start or "~", task.task_id, task.map_index))
    return Run(dag_id, run_id, str(run["state"]), tasks, reasons.of(api, run, instances, logs), run["start_date"])


def follow(
    api: AirflowApi,
    dag_id: str,
    run_id: str,
    on_change: Callable[[Run], None],
    alive: Callable[[], bool] = lambda: True,
    timeout: float | None = None,
    interval: float = LOOK,
) -> Run:
    """Watch the run until it has ended, and return it; `on_change` sees each look.

    Raises:
        LabError: Airflow has not answered for ABSENCE seconds.
        NotReadyError: the run has not ended after `timeout` seconds.
        NotRunningError: the lab is not `alive` any more.

    """
    begin = answered = time.monotonic()
    memory = Memory(Waits(), {})
    run: Run | None = None
    while True:
        try:
            run = look(api, dag_id, run_id, memory)
            answered = time.monotonic()
            on_change(run)
            if run.state in FINAL:
                return run
        except LabError:  # The api-server may have been killed on purpose.
            if time.monotonic() - answered > ABSENCE:
                raise
            if not alive():
                raise NotRunningError(f"the lab was stopped; the run {run_id} goes on when it is started again.") from None
        if timeout is not None and time.monotonic() - begin > timeout:
            raise NotReadyError(f"{dag_id} {run_id} has not ended after {timeout:g} s: {_unfinished(run)}.")
        time.sleep(interval)


def _unfinished(run: Run | None) -> str:
    """Return what keeps a run from its end."""
    if run is None:
        return "Airflow does not answer"
    told = [f"{task.name} is {task.state or 'not scheduled'}" for task in run.tasks if task.state not in ENDED]
    reasons = [f"{name}: {reason}" for name, reason in run.reasons.items()]
    return "; ".join([*told[:MOST], *([f"{len(told) - MOST} more"] if len(told) > MOST else []), *reasons]) or f"it is {run.state}"


def _takes(api: AirflowApi, dag_id: str, run_id: str) -> dict[Key, list[float]]:
    """Return when workers took tasks of the run."""
    takes: dict[Key, list[float]] = {}
    for event in api.events(dag_id, run_id, "running"):
        takes.setdefault(key(event), []).append(moment(event["when"]) or 0.0)
    return takes


def task_of(instance: Mapping[str, Any], waits: Waits | None = None) -> Task:
    """Return a task instance as Airflow describes it, with what `waits` knows of its waits."""
    return Task(
        task_id=instance["task_id"],
        map_index=instance["map_index"],
        try_number=instance["try_number"],
        state=instance["state"],
        queue=instance["queue"],
        worker=instance["hostname"] or None,
        queued=instance["queued_when"],
        start=instance["start_date"],
        end=instance["end_date"],
        waited=waits.seconds(instance) if waits else None,
    )


def _unknown(api: AirflowApi, dags: Path, dag_id: str, known: list[str]) -> UnknownDagError:
    broken = [error["filename"] for error in api.import_errors()]
    hint = f" (these files cannot be read: {', '.join(broken)})" if broken else ""
    return UnknownDagError(f"there is no DAG {dag_id!r} in {dags}{hint}; {suggest(dag_id, known, there_is(sorted(known)))}", path=dags)


def _may_appear(dags: Path, dag_id: str) -> bool:
    """Return whether a DAG file mentions the name, or carries it."""
    files = dags.rglob("*.py")
    return any(path.stem == dag_id or dag_id in path.read_text(encoding="utf-8", errors="replace") for path in files)
