"""Airflow's task logs, read where they are: every process of the lab writes to the same folder."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG, DEFAULT_REMOTE_CONN_ID, REMOTE_TASK_LOG
from airflow.utils.log.file_task_handler import FileTaskHandler

from airflow_celery_lab.inside_airflow import log_levels

# Airflow looks for the two of remote logging here, beside LOGGING_CONFIG; 3.1 does not start without them.
__all__ = ["DEFAULT_REMOTE_CONN_ID", "LOGGING_CONFIG", "REMOTE_TASK_LOG", "SharedFolderTaskHandler"]


class SharedFolderTaskHandler(FileTaskHandler):
    """Reads a running task's log from the shared folder alone.

    Airflow's own handler also asks a log server on the task's worker. Here the worker's name is no host's,
    and what such a server would send is the very file that was read already.
    """

    def _read_from_logs_server(self, ti: Any, worker_log_rel_path: str) -> tuple[list[str], list[Any]]:  # noqa: ARG002  # Airflow's own signature
        return [], []


#: What `[logging] logging_config_class` points at.
LOGGING_CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["handlers"]["task"]["class"] = f"{__name__}.{SharedFolderTaskHandler.__name__}"
log_levels.apply(LOGGING_CONFIG["loggers"])
