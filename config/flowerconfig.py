"""Flower's configuration. Address, port, password and the history's file come from the lab's environment."""

from logging import ERROR, getLogger

from flower.urls import handlers
from flower.views.monitor import Metrics
from tornado.web import authenticated

# At its start Flower asks workers that are not there yet, and calls that a failure; `status` says what really fails.
getLogger("flower.inspector").setLevel(ERROR)

# Keeps the history of tasks over a restart; a crash loses at most these milliseconds of it.
persistent = True
state_save_interval = 5_000

# A worker that was scaled away disappears from the list after these seconds.
purge_offline_workers = 60


def format_task(task):
    """Show an Airflow task under its dag and task name; to Celery all of them are `execute_workload`.

    Their arguments read `dag.task[index] run RUN try N` (see airflow_celery_lab.inside_airflow.celery_config).
    """
    name, separator, details = (task.args or "").strip("'\"").partition(" run ")
    if separator:
        task.name = name
        task.args = f"run {details}"
        task.kwargs = ""
    return task


class LockedMetrics(Metrics):
    """Flower shows its metrics to everybody, also where all else wants the password."""

    @authenticated
    async def get(self):
        """Answer as Flower does."""
        await super().get()


# In place: Flower has the list already.
handlers[:] = [(r"/metrics", LockedMetrics) if handler == (r"/metrics", Metrics) else handler for handler in handlers]
