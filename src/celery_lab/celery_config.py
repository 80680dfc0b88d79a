"""Celery's configuration for Airflow (`[celery] celery_config_options`): Airflow's own, and what Flower needs."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import before_task_publish

CELERY_CONFIG: dict[str, Any] = {
    **DEFAULT_CELERY_CONFIG,
    # Without events Flower shows no tasks.
    "worker_send_task_events": True,
    # This event would carry the task's token (see below); Flower learns of a task when a worker receives it.
    "task_send_sent_event": False,
}


def describe_workload(body: Sequence[Any], headers: MutableMapping[str, Any], **_: Any) -> None:
    """Tell events, and with them Flower, which Airflow task a message is for.

    Celery would put the beginning of Airflow's JSON there, which holds a token that lets its bearer act
    as the task.
    """
    headers["argsrepr"] = _describe(body)


def _describe(body: Sequence[Any]) -> str:
    try:
        task: Mapping[str, Any] = json.loads(body[0][0])["ti"]
        index = f"[{task['map_index']}]" if task["map_index"] >= 0 else ""
        return f"{task['dag_id']}.{task['task_id']}{index} run {task['run_id']} try {task['try_number']}"
    except (KeyError, IndexError, TypeError, ValueError):
        return "a workload that is no task"


before_task_publish.connect(describe_workload, weak=False)
