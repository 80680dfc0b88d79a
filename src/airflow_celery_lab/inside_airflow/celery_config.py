"""Celery's configuration for Airflow (`[celery] celery_config_options`): Airflow's own, what Flower needs, and frugal workers."""

from __future__ import annotations

import gc
import importlib
import multiprocessing.util
import os
import sys
import tempfile
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import before_task_publish, celeryd_init, worker_init, worker_process_init

from airflow_celery_lab.configuration import debugger
from airflow_celery_lab.configuration.overrides import WIRED
from airflow_celery_lab.inside_airflow import imports, users, workload
from airflow_celery_lab.launcher import temporary

USERS = users.module_of("LAB_CELERY_CONFIG", "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS")
if USERS and (
    changed := [name for name in WIRED if USERS.value.get(name, DEFAULT_CELERY_CONFIG.get(name)) != DEFAULT_CELERY_CONFIG.get(name)]
):
    raise SystemExit(f"lab: {USERS.key} changes {', '.join(changed)}, which the lab sets for all of its processes; leave that out.")
CELERY_CONFIG: dict[str, Any] = {
    **DEFAULT_CELERY_CONFIG,
    # Without events Flower shows no tasks.
    "worker_send_task_events": True,
    # This event would carry the task's token (see below); Flower learns of a task when a worker receives it.
    "task_send_sent_event": False,
    "worker_autoscaler": "airflow_celery_lab.inside_airflow.slot_autoscaler:Autoscaler",
    "override_backends": {"db": "airflow_celery_lab.inside_airflow.result_backend:ResultBackend"},
    # They are made with the schema; each process would look for them at its start.
    "database_create_tables_at_setup": False,
    **(USERS.value if USERS else {}),
}


def close_database_connection(**_: Any) -> None:
    """Close the connection with which Airflow has noted that a worker was started: its pool processes would inherit it."""
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose()


def keep_temporary_files_in_the_state(**_: Any) -> None:
    """Let the memory that pool processes share lie where the launcher removes it, and tasks' own files where they did."""
    folder = os.environ.get(temporary.VARIABLE)
    if folder is None:
        return
    usual, tempfile.tempdir = tempfile.tempdir, folder
    try:
        multiprocessing.util.get_temp_dir()  # It remembers the first answer.
    finally:
        tempfile.tempdir = usual


def look_for_garbage_as_usual(**_: Any) -> None:
    """Take back what was set for the start: each slot would keep a few megabytes of garbage."""
    from airflow_celery_lab.inside_airflow import first  # Airflow has imported it by now.

    gc.set_threshold(*first.PYTHONS_THRESHOLDS)


def share_memory_with_slots(**_: Any) -> None:
    """Leave what is there to all slots: Celery looks for garbage before it forks each of them, and what is looked at is written to."""
    for module in imports.OF_TASKS:
        with suppress(ImportError):  # Some have another name before Airflow 3.2.
            importlib.import_module(module)
    with suppress(Exception):  # What is wrong with the certificates, the first task says.
        # It reads the certificates of all authorities, in 30 ms, and keeps them.
        importlib.import_module("airflow.sdk.api.client").Client(base_url="http://localhost", token="").close()
    gc.collect()
    gc.freeze()


def give_way_to_tasks(**_: Any) -> None:
    """Let a slot not push aside its task's process that is about to end.

    That closes its pipes first. The slot wakes, finds the process alive, and as no pipe is left to wake it, sleeps for
    `[workers] min_heartbeat_interval`. On two cores 100 empty tasks in 8 slots take 7.7 s with this, and 8.6 without; with Airflow's own
    interval of 5 s it is 7.7 and 17.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError):  # A sandbox may forbid to set it.
        if os.sched_getscheduler(0) == os.SCHED_OTHER:  # Else it is the user's choice.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # As before, but that it interrupts nobody when it wakes.
            os.register_at_fork(after_in_child=_be_scheduled_as_usual)


def _be_scheduled_as_usual() -> None:
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def remember_busy_slots(instance: Any, **_: Any) -> None:
    """Let a worker that connects again give no task to a slot that has one."""
    from airflow_celery_lab.inside_airflow.busy_slots import BusySlots  # Imports the pool, which the scheduler has no use for.

    instance.app.steps["consumer"].add(BusySlots)


def remember_returned_queues(**_: Any) -> None:
    """Let a worker that connects again listen to a queue that was taken from it and given back."""
    from airflow_celery_lab.inside_airflow import returned_queues  # noqa: F401  # It registers, where only a worker needs it.


def describe_workload(body: Sequence[Any], headers: MutableMapping[str, Any], **_: Any) -> None:
    """Tell events, and with them Flower, which Airflow task a message is for.

    Celery would put the beginning of Airflow's JSON there, token included.
    """
    headers["argsrepr"] = workload.describe(body)


celeryd_init.connect(close_database_connection, weak=False)
celeryd_init.connect(keep_temporary_files_in_the_state, weak=False)
celeryd_init.connect(look_for_garbage_as_usual, weak=False)
worker_init.connect(share_memory_with_slots, weak=False)
worker_process_init.connect(give_way_to_tasks, weak=False)
celeryd_init.connect(remember_busy_slots, weak=False)
celeryd_init.connect(remember_returned_queues, weak=False)
if debugger.VARIABLE in os.environ:
    from airflow_celery_lab.inside_airflow import debugged_worker

    celeryd_init.connect(debugged_worker.prepare, weak=False)
before_task_publish.connect(describe_workload, weak=False)
