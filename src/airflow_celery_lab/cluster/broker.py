"""What the workers say of themselves through the broker, and what waits in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from celery import Celery
from redis import Redis

from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.lab import Lab

#: Seconds that a worker has to answer; one that is alive and idle takes milliseconds.
ANSWER = 1.5
#: kombu keeps a list a priority for each queue, and puts this between the queue's name and the priority;
#: Airflow uses the first one only (`kombu.transport.redis`, `PRIORITY_STEPS`).
SEPARATOR, PRIORITIES = "\x06\x16", ("", "\x06\x163", "\x06\x166", "\x06\x169")


class Worker(NamedTuple):
    """A worker that answers."""

    name: str
    queues: list[str]
    concurrency: int  #: pool slots
    running: int  #: tasks in its slots now


class Queue(NamedTuple):
    """A queue that is used or listened to."""

    name: str
    waiting: int  #: messages that no worker has taken
    listeners: list[str]  #: workers, by name


class Broker:
    """The lab's Redis, as Celery uses it."""

    def __init__(self, lab: Lab) -> None:
        url = wiring(lab)["AIRFLOW__CELERY__BROKER_URL"]
        self.redis: Redis = Redis.from_url(url, decode_responses=True, socket_timeout=ANSWER)
        self.celery = Celery("lab", broker=url)
        # Without these a question lasts as long as Redis hangs.
        self.celery.conf.broker_transport_options = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER}

    def workers(self, expected: int) -> list[Worker]:
        """Return the workers that answer within ANSWER seconds; at once when `expected` have answered."""
        queues = self._ask("active_queues", expected)
        stats = self._ask("stats", len(queues)) if queues else {}
        active = self._ask("active", len(queues)) if queues else {}
        return [
            Worker(
                names.worker_name(node),
                sorted(queue["name"] for queue in queues[node]),
                int(stats.get(node, {}).get("pool", {}).get("max-concurrency", 0)),
                len(active.get(node, [])),
            )
            for node in sorted(queues, key=names.in_order)
        ]

    def queues(self, workers: Iterable[Worker]) -> list[Queue]:
        """Return the queues that have been used, or that one of `workers` listens to."""
        listeners: dict[str, list[str]] = {}
        for worker in workers:
            for name in worker.queues:
                listeners.setdefault(name, []).append(worker.name)
        used = set(listeners) | self._bound()
        return [Queue(name, self.waiting(name), listeners.get(name, [])) for name in sorted(used)]

    def waiting(self, queue: str) -> int:
        """Return the number of messages in `queue` that no worker has taken."""
        return sum(int(self.redis.llen(queue + suffix)) for suffix in PRIORITIES)

    def _bound(self) -> set[str]:
        """Return the queues that a task was ever sent to; kombu binds each to an exchange of its name."""
        bound = set()
        for key in self.redis.scan_iter("_kombu.binding.*"):
            for member in self.redis.smembers(key):
                bound.add(str(member).split(SEPARATOR)[-1])
        return {name for name in bound if not name.endswith(".pidbox") and not name.startswith("celeryev.")}

    def _ask(self, question: str, limit: int) -> dict[str, Any]:
        inspect = self.celery.control.inspect(timeout=ANSWER, limit=limit or None)
        return dict(getattr(inspect, question)() or {})

    def close(self) -> None:
        """Let go of the connections."""
        self.redis.close()
        self.celery.close()
