"""A whole Airflow CeleryExecutor cluster on one machine, without a container per service.

    from airflow_celery_lab import Cluster

    with Cluster.open() as cluster:
        cluster.up()
        run = cluster.run("my_dag")
        assert run.succeeded
        cluster.down()

Each error in `errors` has an exit status and the data behind its sentence. The package logs to the logger `airflow_celery_lab` and prints nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_celery_lab import errors
    from airflow_celery_lab.cluster.broker import Queue, Worker
    from airflow_celery_lab.cluster.handle import Cluster
    from airflow_celery_lab.cluster.judgement import ProcessStatus, Status
    from airflow_celery_lab.cluster.runs import Run, Task
    from airflow_celery_lab.errors import LabError
    from airflow_celery_lab.supervision.wanted import Plan

__version__ = "0.2.0"

__all__ = ["Cluster", "LabError", "Plan", "ProcessStatus", "Queue", "Run", "Status", "Task", "Worker", "__version__", "errors"]

#: Where each public name is; imported when it is asked for, as a launcher asks for none of them.
_HOMES = {
    "Cluster": "cluster.handle",
    "LabError": "errors",
    "Plan": "supervision.wanted",
    "ProcessStatus": "cluster.judgement",
    "Queue": "cluster.broker",
    "Run": "cluster.runs",
    "Status": "cluster.judgement",
    "Task": "cluster.runs",
    "Worker": "cluster.broker",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "errors":
        return importlib.import_module(f"{__name__}.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
