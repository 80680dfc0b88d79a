"""How many tasks wait or run on which queue: what the official Helm chart lets KEDA ask Airflow's database for, for all queues at once."""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.servers import probes

#: A task may name another executor than Celery's, which then runs it in the scheduler whatever its queue says.
TASKS = """
SELECT queue, count(*) FROM task_instance
WHERE state IN ('queued', 'running') AND coalesce(executor, 'CeleryExecutor') LIKE '%CeleryExecutor' GROUP BY queue
"""


class Loads:
    """One connection to the lab's Postgres, made again when it is lost."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._connection: Any = None

    def ask(self) -> dict[str, int]:
        """Return the number of tasks by queue.

        Raises:
            NotReadyError: Postgres does not answer, or not in time.

        """
        import psycopg2  # As in `probes`.

        try:
            if self._connection is None:
                self._connection = psycopg2.connect(**probes.address(self._lab), application_name="lab autoscale", async_=True)
                _wait(self._connection)
            with self._connection.cursor() as cursor:
                cursor.execute(TASKS)
                _wait(self._connection)
                return dict(cursor.fetchall())
        except (psycopg2.Error, TimeoutError) as error:
            self.close()
            lines = str(error).strip().splitlines() or ["no reason given"]
            reason = lines[0].rpartition("failed: ")[2]
            raise NotReadyError(f"Postgres on port {self._lab.settings.ports.postgres} does not answer: {reason}.") from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            with suppress(Exception):  # Whatever a broken connection answers to being closed.
                self._connection.close()
            self._connection = None


def _wait(connection: Any) -> None:
    """Wait for the end of what was begun; psycopg2 alone would wait for as long as Postgres hangs, and hear no signal.

    Raises:
        TimeoutError: it takes too long.

    """
    from psycopg2 import extensions

    deadline = time.monotonic() + probes.TIMEOUT
    while (state := connection.poll()) != extensions.POLL_OK:
        reading, writing = ([connection], []) if state == extensions.POLL_READ else ([], [connection])
        if not any(select.select(reading, writing, [], max(deadline - time.monotonic(), 0))):
            raise TimeoutError(f"no answer for {probes.TIMEOUT:.0f} s")


def on(queues: Iterable[str], loads: Mapping[str, int]) -> int:
    """Return the number of tasks on `queues`."""
    return sum(loads.get(queue, 0) for queue in queues)
