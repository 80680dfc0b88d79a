"""The lab in which the tour is given: its workers and queues, as the user's Procfile has them, and its addresses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from airflow_celery_lab.cluster.broker import Worker
from airflow_celery_lab.configuration import names


@dataclass(frozen=True)
class Addresses:
    """Where a browser and a reader find things."""

    me: str  #: the lab's command, as it was typed
    airflow: str  #: without a trailing slash
    flower: str  #: without one; empty where none runs
    docs: str  #: the folder of pages, as a reader finds it


@dataclass(frozen=True)
class Place:
    """What the steps are made for."""

    at: Addresses
    workers: Sequence[Worker]  #: that answer; one at least
    queue: str  #: on which most of the tour's tasks are
    worker: str  #: the first one on it
    line: str  #: of the Procfile, behind that worker; empty where it has none
    instances: int  #: of that line that run
    heavy: str  #: a queue of other workers alone; empty where there is none
    triggerer: bool  #: one runs
    patience: float  #: seconds after which the lab fails a task that no worker listens for; 0: never

    def on(self, queue: str) -> list[Worker]:
        """Return the workers on a queue."""
        return [worker for worker in self.workers if queue in worker.queues]

    @property
    def slots(self) -> int:
        """Tasks that run at a time on the tour's queue."""
        return sum(worker.concurrency for worker in self.on(self.queue))


def find(
    at: Addresses,
    workers: Iterable[Worker],
    default_queue: str,
    lines: Collection[str],
    running: Collection[str],
    *,
    triggerer: bool,
    patience: float,
) -> Place | None:
    """Return the place that these workers make; None where there are none.

    `lines` has the names of the Procfile's lines, `running` those of the processes that run.
    """
    found = sorted(workers, key=lambda worker: names.in_order(worker.name))
    queues = sorted({queue for worker in found for queue in worker.queues})
    if not queues:
        return None
    queue = default_queue if default_queue in queues else max(queues, key=lambda queue: _slots(found, queue))
    own = [worker.name for worker in found if queue in worker.queues]
    counts = {name: _instances(name, running, lines) for name in own if name in lines}
    # Where the next instance would have the name of another line, `scale` refuses it.
    lines_of = [name for name, count in counts.items() if names.instance_name(name, count + 1) not in lines]
    line = lines_of[0] if lines_of else ""
    apart = [other for other in queues if other != queue and not any({queue, other} <= set(worker.queues) for worker in found)]
    return Place(at, found, queue, line or own[0], line, counts.get(line, 0), apart[0] if apart else "", triggerer, patience)


def _slots(workers: Sequence[Worker], queue: str) -> int:
    return sum(worker.concurrency for worker in workers if queue in worker.queues)


def _instances(line: str, running: Collection[str], lines: Collection[str]) -> int:
    count = 1
    while (name := names.instance_name(line, count + 1)) in running and name not in lines:
        count += 1
    return count
