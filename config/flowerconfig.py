"""Flower's configuration. Address, port, password and the history's file come from the lab's environment."""

import os
import time
from copy import copy
from functools import cache
from logging import ERROR, WARNING, getLogger
from threading import Lock

from flower import app, events
from flower.urls import handlers
from flower.views import BaseHandler
from flower.views.monitor import Metrics
from tornado.ioloop import IOLoop
from tornado.options import options
from tornado.web import authenticated

# At its start Flower asks workers that are not there yet, and calls that a failure; `status` says what really fails.
getLogger("flower.inspector").setLevel(ERROR)

# Each look at `/lab/metrics` would leave four lines in the log.
getLogger("httpx").setLevel(WARNING)


def unless_set(name, value):
    """Return the lab's value of an option, or the user's: Flower reads this file after the `FLOWER_...` variables."""
    return getattr(options, name) if f"FLOWER_{name.upper()}" in os.environ else value


# Keeps the history of tasks over a restart; a crash loses these milliseconds of it (see `SparingEvents`).
persistent = unless_set("persistent", True)  # noqa: FBT003  # Flower's own name
state_save_interval = unless_set("state_save_interval", 5_000)

# To save this many takes Flower 4 s, in which it answers nobody; its own number is 100 000.
max_tasks = unless_set("max_tasks", 10_000)

# A worker that was scaled away disappears from the list after these seconds.
purge_offline_workers = unless_set("purge_offline_workers", 60)

#: For how many times as long as it took to save the history it is not saved again.
SPARING = 100

ONE_AT_A_TIME = Lock()


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


class SparingEvents(events.Events):
    """Flower saves all tasks each time, for 0.4 ms of CPU a task, also where nothing happens: 6 % of a core after 800 tasks."""

    _is_new, _next = False, 0.0

    def on_event(self, event):
        """Note whether a task goes on; all workers send an event each few seconds."""
        super().on_event(event)
        self._is_new = self._is_new or event["type"].startswith("task-")

    def stop(self):
        """Save what is new at once."""
        self._next = 0.0
        super().stop()

    def save_state(self):
        """Save if there is something new, for a hundredth of the time at most."""
        begin = time.monotonic()
        if self._is_new and begin >= self._next:
            self._is_new = False
            super().save_state()
            end = time.monotonic()
            self._next = end + SPARING * (end - begin)


class LockedMetrics(Metrics):
    """Flower shows its metrics to everybody, also where all else wants the password."""

    @authenticated
    async def get(self):
        """Answer as Flower does."""
        await super().get()


class LabMetrics(BaseHandler):
    """What `lab metrics` prints, at an address that has a password already."""

    @authenticated
    async def get(self):
        """Answer without holding up Flower's pages."""
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        status, text = await IOLoop.current().run_in_executor(None, look_at_lab)
        self.set_status(status)
        self.write(text)


@cache
def opened_lab():
    """Return the lab that this Flower belongs to. Once: each Celery app leaves something behind in kombu's pools."""
    from airflow_celery_lab.cluster.handle import Cluster

    return Cluster.open(writing=False)


def look_at_lab():
    """Return the metrics of the lab with status 200, or 503 and a sentence that says why there are none."""
    # Flower does without these until somebody asks.
    from airflow_celery_lab.errors import LabError
    from airflow_celery_lab.metrics import families, scrape

    try:
        with ONE_AT_A_TIME:
            return 200, families.text(scrape.look(opened_lab()))
    except LabError as error:
        return 503, f"{error}\n"


class NamedMetrics(events.PrometheusMetrics):
    """Flower's own metrics, with an Airflow task under its dag and task name; all indices of a mapped task are one."""

    def observe_task(self, worker, event, task):
        """Count as Flower does; Flower 2.0 does not ask here."""
        name = (format_task(copy(task)).name or "").partition("[")[0]
        super().observe_task(worker, {**event, "name": name}, task)


# In place: Flower has the list already. It makes its metrics when it is configured.
handlers[:] = [(r"/metrics", LockedMetrics) if handler == (r"/metrics", Metrics) else handler for handler in handlers]
handlers.insert(0, (r"/lab/metrics", LabMetrics))
events.PrometheusMetrics = NamedMetrics
app.Events = SparingEvents
