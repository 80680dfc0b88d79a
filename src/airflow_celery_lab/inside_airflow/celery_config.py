"""Celery's configuration for Airflow (`[celery] celery_config_options`): Airflow's own, and what Flower needs."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import before_task_publish

from airflow_celery_lab.inside_airflow import workload

CELERY_CONFIG: dict[str, Any] = {
    **DEFAULT_CELERY_CONFIG,
    # Without events Flower shows no tasks.
    "worker_send_task_events": True,
    # This event would carry the task's token (see below); Flower learns of a task when a worker receives it.
    "task_send_sent_event": False,
}


def describe_workload(body: Sequence[Any], headers: MutableMapping[str, Any], **_: Any) -> None:
    """Tell events, and with them Flower, which Airflow task a message is for.

    Celery would put the beginning of Airflow's JSON there, token included.
    """
    headers["argsrepr"] = workload.describe(body)


before_task_publish.connect(describe_workload, weak=False)
