"""Why tasks of a run failed, or cannot start: from Airflow's events, the tasks' logs and the pools."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.waits import key
from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import AirflowError

#: Airflow's events for a task that was given up: by its executor, by the scheduler when it waited, or was silent, for too long.
GIVEN_UP = ("state mismatch", "stuck in queued tries exceeded", "heartbeat timeout")
#: What Airflow puts before an executor's own reason, and before the address of a page that explains the event.
INFO, ADVICE = " Extra info: ", " See http"
#: What speaks of a task itself in its log; all others write there for the task.
SPEAKERS = ("task", "airflow_celery_lab.")
#: Logs that are read at most for one run; a mapped task fails a hundred times for one reason.
LOGS = 5
#: Seconds after which a task that could run, and is not even queued, is looked into.
PATIENCE = 3.0

Items = Sequence[Mapping[str, Any]]


def of(api: AirflowApi, run: Mapping[str, Any], instances: Items) -> dict[str, str]:
    """Return why tasks failed, when the run has failed, or what they cannot start for; by the tasks' names."""
    if run["state"] == "failed":
        return _of_failures(api, run["dag_id"], run["dag_run_id"], [instance for instance in instances if instance["state"] == "failed"])
    late = [instance for instance in instances if instance["state"] == "scheduled" and _age(instance) > PATIENCE]
    return _without_pool(late, api.pools()) if late else {}


def name_of(instance: Mapping[str, Any]) -> str:
    """Return a task's id, with its index where it is mapped."""
    index = instance["map_index"]
    return str(instance["task_id"]) if index is None or index < 0 else f"{instance['task_id']}[{index}]"


def in_event(extra: str) -> str:
    """Return what one of Airflow's events says of a task that was given up."""
    said, _, reason = extra.partition(INFO)
    return reason or said.partition(ADVICE)[0]


def in_log(items: Sequence[Any]) -> str:
    """Return why a task failed by its log, "" where that does not tell: its exception, else the first of what went wrong."""
    errors = [item for item in items if isinstance(item, dict) and item.get("level") in {"error", "critical"}]
    own = [item for item in errors if str(item.get("logger", "")).startswith(SPEAKERS)] or errors
    for item in reversed(own):
        for exception in item.get("error_detail") or []:
            lines = str(exception["exc_value"]).strip().splitlines()
            return f"{exception['exc_type']}: {lines[0]}" if lines else str(exception["exc_type"])
    if not own:
        return ""
    place = f" ({own[0]['path']})" if own[0].get("path") else ""
    return str(own[0].get("event", "")).partition(" For more information, see http")[0].rstrip(".") + place


def _of_failures(api: AirflowApi, dag_id: str, run_id: str, failed: Items) -> dict[str, str]:
    told = {key(event): in_event(str(event["extra"])) for event in api.events(dag_id, run_id, *GIVEN_UP)}
    found = {name_of(instance): told[key(instance)] for instance in failed if told.get(key(instance))}
    for instance in [instance for instance in failed if name_of(instance) not in found][:LOGS]:
        with suppress(AirflowError):
            log = api.log(dag_id, run_id, instance["task_id"], instance["try_number"], instance["map_index"])
            if reason := in_log(log):
                found[name_of(instance)] = reason
    return found


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
