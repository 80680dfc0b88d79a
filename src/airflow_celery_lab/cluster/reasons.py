"""Why tasks of a run failed, or cannot start: from Airflow's events, the tasks' logs and the pools."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.waits import Key, key
from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import AirflowError

#: Airflow's event for a task that its executor gave up, and what stands before the executor's reason, if it has one.
MISMATCH, INFO = "state mismatch", " Extra info: "
#: Airflow's events for a task that the scheduler gave up: it waited, or was silent, for too long.
GIVEN_UP = ("stuck in queued tries exceeded", "heartbeat timeout")
#: What Airflow puts before the address of a page.
ADVICE = re.compile(r" (See|Learn more:|For more information, see) http.*", re.DOTALL)
#: Who speaks of a task in its log; all others are the task's own code.
SPEAKERS = ("task", "airflow_celery_lab.", "airflow.dag_processing.")
#: What Airflow says of each exception of a task.
FAILED = "Task failed with exception"
#: Logs that are read at most in one look; a mapped task fails a hundred times for one reason.
LOGS = 5
#: The pool that Airflow makes itself, and that cannot be deleted.
DEFAULT_POOL = "default_pool"
#: Seconds after which a task that could run, and is not even queued, is looked into.
PATIENCE = 3.0

Items = Sequence[Mapping[str, Any]]
#: What was read from logs: a try in one state has one reason.
Known = dict[tuple[Key, str], str]


def of(api: AirflowApi, run: Mapping[str, Any], instances: Items, known: Known) -> dict[str, str]:
    """Return why tasks failed, when the run has failed, or what keeps them from starting while it goes on; by the tasks' names.

    `known` has what earlier looks have read from logs.
    """
    if run["state"] == "failed":
        failed = [instance for instance in instances if instance["state"] == "failed"]
        return _of_failures(api, run["dag_id"], run["dag_run_id"], failed, known)
    late = [
        instance
        for instance in instances
        if instance["state"] == "scheduled" and instance["pool"] != DEFAULT_POOL and _age(instance) > PATIENCE
    ]
    # Airflow does this to a task whose DAG it cannot load; a sensor may wish it, and has no error in its log.
    put_off = [instance for instance in instances if instance["state"] == "up_for_reschedule"]
    return {**(_without_pool(late, api.pools()) if late else {}), **_of_logs(api, put_off, known)}


def name_of(instance: Mapping[str, Any]) -> str:
    """Return a task's id, with its index where it is mapped."""
    index = instance["map_index"]
    return str(instance["task_id"]) if index is None or index < 0 else f"{instance['task_id']}[{index}]"


def in_event(kind: str, extra: str) -> str:
    """Return what one of Airflow's events says of a task that was given up; "" for that an executor gave it up without a reason."""
    told = extra.partition(INFO)[2] if kind == MISMATCH else ADVICE.sub("", extra)
    return next(iter(told.strip().splitlines()), "")


def in_log(items: Sequence[Any]) -> str:
    """Return why a task failed by its log, "" where that does not tell: its exception, else the first of what went wrong."""
    errors = [item for item in items if isinstance(item, dict) and item.get("level") in {"error", "critical"}]
    own = [item for item in errors if str(item.get("logger", "")).startswith(SPEAKERS)] or errors
    for item in reversed(own):
        for exception in item.get("error_detail") or []:
            lines = str(exception["exc_value"]).strip().splitlines()
            told = f"{exception['exc_type']}: {lines[0]}" if lines else str(exception["exc_type"])
            return told if item["event"] == FAILED else f"{item['event']}: {told}"
    if not own:
        return ""
    place = f" ({own[0]['path']})" if own[0].get("path") else ""
    return ADVICE.sub("", str(own[0].get("event", ""))).rstrip(".") + place


def _of_failures(api: AirflowApi, dag_id: str, run_id: str, failed: Items, known: Known) -> dict[str, str]:
    told: dict[Key, str] = {}
    for event in api.events(dag_id, run_id, MISMATCH, *GIVEN_UP):
        if reason := in_event(event["event"], str(event["extra"])):
            told[key(event)] = reason
    silent = [instance for instance in failed if key(instance) not in told]
    return {**{name_of(instance): told[key(instance)] for instance in failed if key(instance) in told}, **_of_logs(api, silent, known)}


def _of_logs(api: AirflowApi, instances: Items, known: Known) -> dict[str, str]:
    for instance in [instance for instance in instances if _look(instance) not in known][:LOGS]:
        with suppress(AirflowError):
            which = (instance["dag_id"], instance["dag_run_id"], instance["task_id"], instance["try_number"], instance["map_index"])
            known[_look(instance)] = in_log(api.log(*which))
    return {name_of(instance): known[_look(instance)] for instance in instances if known.get(_look(instance))}


def _look(instance: Mapping[str, Any]) -> tuple[Key, str]:
    return key(instance), instance["state"]


def _without_pool(late: Items, pools: set[str]) -> dict[str, str]:
    return {
        name_of(instance): f"there is no pool {instance['pool']!r}, and Airflow lets it wait; "
        f"make one with `{typed()} airflow pools set {instance['pool']} 4 ''`"
        for instance in late
        if instance["pool"] not in pools
    }


def _age(instance: Mapping[str, Any]) -> float:
    begin = moment(instance["scheduled_when"])
    return time.time() - begin if begin is not None else 0.0
