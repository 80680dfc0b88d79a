"""A worker that connects again remembers which of its slots are busy.

When Redis goes away, Celery forgets that (`AsynPool.flush`), and hands the next task to a process that still runs one: the
task waits for that one's end, and with it all that the worker might take, as it takes only few until then. A task of
an hour can make a worker with free slots stand still for an hour (Celery 5.6; its issue 7515).
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool


class BusySlots(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
    """Runs each time that a worker's consumer starts, before it takes the first message."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Mark the processes as busy whose tasks have not ended."""
        pool = parent.pool._pool if isinstance(parent.pool, TaskPool) else None  # noqa: SLF001  # Celery offers no other way.
        if isinstance(pool, AsynPool):
            processes = [job._write_to for job in tuple(pool._cache.values()) if not job.ready()]  # noqa: SLF001  # As above.
            pool._busy_workers.update(process.inqW_fd for process in processes if process is not None)  # noqa: SLF001  # As above.
