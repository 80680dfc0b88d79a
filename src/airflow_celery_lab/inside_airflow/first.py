"""What each process of Airflow imports first: `[logging] logging_config_class` points here."""

from __future__ import annotations

import atexit
import gc
import sys
from copy import deepcopy

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG, DEFAULT_REMOTE_CONN_ID, REMOTE_TASK_LOG
from airflow.configuration import conf

from airflow_celery_lab.inside_airflow import log_levels, shared_ids, users
from airflow_celery_lab.inside_airflow.task_logs import SharedFolderTaskHandler

# Little of what a process makes while it starts is garbage. With Python's own thresholds looking for it takes a fifth of the
# api-server's start and a tenth of the others', and the last look, at the end, 0.2 s of each.
PYTHONS_THRESHOLDS = gc.get_threshold()
gc.set_threshold(5_000, 20, 100)
atexit.register(gc.freeze)

# Airflow looks for the two of remote logging here, beside LOGGING_CONFIG; 3.1 does not start without them.
__all__ = ["DEFAULT_REMOTE_CONN_ID", "LOGGING_CONFIG", "REMOTE_TASK_LOG"]
AIRFLOWS_HANDLER = DEFAULT_LOGGING_CONFIG["handlers"]["task"]["class"]

USERS = users.module_of("LAB_LOGGING_CONFIG", "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS")
if USERS:
    LOGGING_CONFIG = deepcopy(USERS.value)
    REMOTE_TASK_LOG = getattr(USERS.module, "REMOTE_TASK_LOG", None)
    DEFAULT_REMOTE_CONN_ID = getattr(USERS.module, "DEFAULT_REMOTE_CONN_ID", None)
else:
    LOGGING_CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)
if (handler := LOGGING_CONFIG.get("handlers", {}).get("task", {})).get("class") == AIRFLOWS_HANDLER:
    handler["class"] = f"{SharedFolderTaskHandler.__module__}.{SharedFolderTaskHandler.__name__}"
log_levels.apply(LOGGING_CONFIG.setdefault("loggers", {}))

# Airflow puts the DAG folder on the path where it reads DAGs, but not in the triggerer, whose triggers may stand there.
# At the end, as Airflow does: a file of the user's must not hide a package of the same name, as PYTHONPATH would let it.
if (folder := conf.get("core", "dags_folder")) not in sys.path:
    sys.path.append(folder)


def begin() -> None:
    """Do what one kind of process alone needs, as its arguments say; a process from the forkserver has them later than this module."""
    if sys.argv[1:2] == ["dag-processor"]:
        shared_ids.watch()
    elif sys.argv[1:2] in (["api-server"], ["jobs"]) and not conf.has_option("dag_processor", "health_check_threshold"):
        # Airflow 3.1 has no such setting: it takes 2.1 times the pace of heartbeats that the process has which looks. With the lab's own
        # 2 s a stall of 4 s would be an alarm; all others, and a dag-processor of a later release, have 30 s.
        conf.set("scheduler", "job_heartbeat_sec", "15")


begin()
