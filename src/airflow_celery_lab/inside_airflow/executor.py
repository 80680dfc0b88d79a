"""Airflow's CeleryExecutor, which also fails tasks on a queue that no worker listens to, and says why.

Airflow alone cannot tell such a task from one that waits behind busy workers. The scheduler loads this
(`[core] executor`) unless LAB_LISTENER_TIMEOUT is 0.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.configuration import conf
from airflow.executors.workloads import ExecuteTask
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.providers.celery.executors.celery_executor import CeleryExecutor
from celery import states
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from airflow_celery_lab.configuration import settings
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.inside_airflow.listeners import Unheard
from airflow_celery_lab.launcher import registry

if TYPE_CHECKING:
    from airflow.executors import workloads
    from airflow.models.taskinstance import TaskInstance

#: Seconds between two looks at who listens; a look reads a few small files.
INTERVAL = 3.0
#: Seconds that workers have to tell their queues, asked only before a task fails.
ANSWER = 1.0
#: What a Redis that is away makes of a request.
OUTAGE = (OperationalError, RedisError)


class _Sent(NamedTuple):
    queue: str
    log: Path | None


class LabCeleryExecutor(CeleryExecutor):
    """A CeleryExecutor that knows which queues the lab's workers serve."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        self._settings = settings.load(os.environ)
        self._sent: dict[TaskInstanceKey, _Sent] = {}
        self._unheard: Unheard[TaskInstanceKey] = Unheard(self._settings.listener_timeout)
        self._looked = time.monotonic()

    def _process_workloads(self, workload_items: Sequence[workloads.All]) -> None:
        for workload in workload_items:
            if isinstance(workload, ExecuteTask):
                log = Path(conf.get("logging", "base_log_folder")) / workload.log_path if workload.log_path else None
                self._sent[workload.ti.key] = _Sent(workload.ti.queue, log)
        super()._process_workloads(workload_items)

    def try_adopt_task_instances(self, tis: Sequence[TaskInstance]) -> Sequence[TaskInstance]:
        """Take over the tasks of a scheduler that has ended, and remember their queues."""
        self._sent.update({instance.key: _Sent(instance.queue or "", None) for instance in tis})
        return super().try_adopt_task_instances(tis)

    def sync(self) -> None:
        """Ask for the state of what was sent; fail what no worker will ever take."""
        super().sync()
        now = time.monotonic()
        if self.workloads and now - self._looked >= INTERVAL:
            self._looked = now
            self._fail_unheard(now)

    def revoke_task(self, *, ti: TaskInstance) -> None:
        """Take back what was queued for too long; without a trace, or `waiting` would count it twice."""
        key = ti.key
        result, sent = self.workloads.get(key), self._sent.get(key)
        super().revoke_task(ti=ti)
        if result is not None and sent is not None:
            with suppress(*OUTAGE):  # Revoked it is, and the workers know.
                self._remove(sent.queue, result.task_id)

    def _fail_unheard(self, now: float) -> None:
        self._sent = {key: sent for key, sent in self._sent.items() if key in self.workloads or key in self.queued_tasks}
        waiting = {key: sent.queue for key, sent in self._sent.items() if key in self.workloads}
        late = self._unheard.observe(now, waiting, _served(self._settings))
        if not late:
            return
        try:
            for key in self._unheard.observe(now, {key: waiting[key] for key in late}, self._answering()):
                if self.workloads[key].state == states.PENDING:
                    self._fail(key)
        except OUTAGE as error:  # Redis is away, and the next look is soon; the scheduler must not end for it.
            self.log.warning("Cannot look after the tasks on queues without a listener: %s", error)

    def _answering(self) -> set[str]:
        """Return the queues of the workers that answer: some may have been added (`airflow celery add-queue`)."""
        answers = self.celery_app.control.inspect(timeout=ANSWER).active_queues() or {}
        return {queue["name"] for queues in answers.values() for queue in queues}

    def _fail(self, key: TaskInstanceKey) -> None:
        sent = self._sent[key]
        self._remove(sent.queue, self.workloads[key].task_id)
        reason = (
            f"No worker has listened to the queue {sent.queue!r} for {self._settings.listener_timeout:g} s; add it to a worker's --queues in the "
            "Procfile, correct the queue's name in the DAG, or set LAB_LISTENER_TIMEOUT=0 to let such tasks wait."
        )
        self.log.warning("%s.%s: %s", key.dag_id, key.task_id, reason)
        if sent.log is not None:
            _append(sent.log, reason)
        self.fail(key, reason)

    def _remove(self, queue: str, task_id: str) -> None:
        """Take a task's message off its queue if it still is there, so that no worker finds it later."""
        with self.celery_app.connection_for_write() as connection:
            redis = connection.default_channel.client
            for message in redis.lrange(queue, 0, -1):
                if task_id.encode() in message:  # Celery writes its id into the headers only.
                    redis.lrem(queue, 1, message)


def _served(config: Settings) -> set[str]:
    """Return the queues of all workers that run, whether they answer just now or not.

    One that is paused, finishes its tasks or reconnects will take what waits, or its successor will.
    """
    return {queue for record in registry.running(config.state).values() for queue in record.queues}


def _append(log: Path, reason: str) -> None:
    """Write it where a user looks first: in the task's own log, in Airflow's format."""
    line = {"timestamp": datetime.now(timezone.utc).isoformat(), "level": "error", "event": reason, "logger": __name__}
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
