"""What the workers say of themselves through the broker, and what waits in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_celery_lab.configuration import names, observer
from airflow_celery_lab.configuration.environment import wiring
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.launcher import lease
from airflow_celery_lab.launcher.lease import Lease

if TYPE_CHECKING:
    from redis import Redis

#: Seconds that a worker has to answer; one that is alive and idle takes milliseconds.
ANSWER = 1.5
#: At most, as Celery's own `broker_pool_limit`; they are kept for the next question.
CONNECTIONS = 10
#: Seconds after the last message for which a queue is shown that is empty and that no worker listens to. A queue that was
#: mistyped in a DAG is seen for as long as one looks for the mistake; kombu itself remembers it for good.
MEMORY = 600
#: How kombu names the keys of its exchanges; Airflow sends to the exchange of the queue's own name.
BINDING = "_kombu.binding."
#: The exchange through which workers are asked, and what kombu puts between the parts of a binding (`kombu.transport.redis`, `sep`); the last
#: one is a worker's queue there.
QUESTIONS, PART = "celery.pidbox", "\x06\x16"
#: kombu keeps a list a priority for each queue, and puts this between the queue's name and the priority;
#: Airflow uses the first one only (`kombu.transport.redis`, `PRIORITY_STEPS`).
PRIORITIES = ("", f"{PART}3", f"{PART}6", f"{PART}9")


class Worker(NamedTuple):
    """A worker that answers."""

    name: str
    queues: list[str]
    concurrency: int  #: pool slots
    running: int  #: tasks in its slots now


class Hold(NamedTuple):
    """What a worker has at a moment."""

    queues: frozenset[str]  #: that it listens to
    tasks: int  #: that it runs, or has taken and not begun


class Queue(NamedTuple):
    """A queue that is used or listened to."""

    name: str
    waiting: int  #: messages that no worker has taken
    listeners: list[str]  #: workers, by name


class Broker:
    """The lab's Redis, as Celery uses it."""

    def __init__(self, lab: Lab) -> None:
        # These are most of the command line's imports, and most commands ask no worker.
        from kombu.connection import Connection
        from kombu.pidbox import Mailbox
        from redis import Redis

        url = wiring(lab)["AIRFLOW__CELERY__BROKER_URL"]
        self.redis: Redis = Redis.from_url(url, decode_responses=True, socket_timeout=ANSWER)
        # What Celery's own `app.control` is made of: an app takes 0.05 s to import, each time that somebody looks.
        self._mailbox = Mailbox("celery", type="fanout", serializer="json")
        # Without these timeouts a question lasts as long as Redis hangs.
        timeouts = {"socket_timeout": ANSWER, "socket_connect_timeout": ANSWER}
        self._connections = Connection(url, transport_options={**observer.broker_transport_options, **timeouts}).Pool(CONNECTIONS)

    def workers(self, expected: int, asked: Sequence[str] | None = None) -> list[Worker]:
        """Return the workers that answer within ANSWER seconds, of those `asked` or of all; at once when `expected` have answered."""
        queues = self._ask_all("active_queues", expected) if asked is None else self._ask("active_queues", map(names.node_name, asked))
        stats, active = self._ask("stats", queues), self._ask("active", queues)
        return [
            Worker(
                names.worker_name(node),
                sorted(queue["name"] for queue in queues[node]),
                int(stats.get(node, {}).get("pool", {}).get("max-concurrency", 0)),
                len(active.get(node, [])),
            )
            for node in sorted(queues, key=names.in_order)
        ]

    def listening(self) -> set[str]:
        """Return the workers that have a queue for questions. One that was killed is among them for a while.

        kombu notes the queue shortly before it listens to it, and a question in between is lost.
        """
        suffix = f".{QUESTIONS}"
        queues = [str(binding).rpartition(PART)[2] for binding in self.redis.smembers(f"{BINDING}{QUESTIONS}")]
        return {names.worker_name(queue.removesuffix(suffix)) for queue in queues if queue.endswith(suffix)}

    def reserved(self, expected: int) -> dict[str, int]:
        """Return how many messages each worker that answers has taken and not begun; at once when `expected` have answered."""
        return {names.worker_name(node): len(messages) for node, messages in self._ask_all("reserved", expected).items()}

    def hold(self, worker: str) -> Hold | None:
        """Return what one worker has, None when it does not answer. What it listens to is asked first: tasks come from there."""
        answers = []
        node = names.node_name(worker)
        for question in ("active_queues", "active", "reserved"):
            answer = self._ask(question, [node]).get(node)
            if answer is None:
                return None
            answers.append(answer)
        queues, active, reserved = answers
        return Hold(frozenset(queue["name"] for queue in queues), len(active) + len(reserved))

    def taken(self, worker: str) -> list[dict[str, Any]]:
        """Return what Celery says of each task that one worker has given to a slot."""
        node = names.node_name(worker)
        return list(self._ask("active", [node], safe=True).get(node, []))

    def leave(self, worker: str, queues: Iterable[str]) -> None:
        """Tell a worker to take nothing more from `queues`; one that has left them already stays as it is."""
        for queue in queues:
            self._tell(worker, "cancel_consumer", queue=queue)

    def return_to(self, worker: str, queues: Iterable[str]) -> None:
        """Tell a worker to take tasks from `queues` again."""
        for queue in queues:
            self._tell(worker, "add_consumer", queue=queue)

    def pool_processes(self, expected: int) -> dict[str, int]:
        """Return how many processes the pool of each worker that answers has; at once when `expected` have answered."""
        return {names.worker_name(node): len(stats["pool"]["processes"]) for node, stats in self._ask_all("stats", expected).items()}

    def begun(self, expected: int) -> dict[str, int]:
        """Return how many messages each worker that answers has given to its slots since its start.

        One that came twice counts twice. At once when `expected` have answered.
        """
        return {names.worker_name(node): sum(stats["total"].values()) for node, stats in self._ask_all("stats", expected).items()}

    def queues(self, workers: Iterable[Worker]) -> list[Queue]:
        """Return the queues that one of `workers` listens to, that hold a message, or that had one in the last MEMORY seconds."""
        listeners: dict[str, list[str]] = {}
        for worker in workers:
            for name in worker.queues:
                listeners.setdefault(name, []).append(worker.name)
        idle = self._idle()
        found = [Queue(name, self.waiting(name), listeners.get(name, [])) for name in sorted({*listeners, *idle})]
        return [queue for queue in found if queue.listeners or queue.waiting or idle[queue.name] < MEMORY]

    def machines(self) -> dict[str, Lease]:
        """Return the machines that have joined the lab, by name."""
        return lease.read(self.redis)

    def waiting(self, queue: str) -> int:
        """Return the number of messages in `queue` that no worker has taken."""
        return sum(int(self.redis.llen(queue + suffix)) for suffix in PRIORITIES)

    def empty(self, queue: str) -> None:
        """Delete the messages in `queue` that no worker has taken."""
        self.redis.delete(*(queue + suffix for suffix in PRIORITIES))

    def _idle(self) -> dict[str, float]:
        """Return the queues that a task was ever sent to, with the seconds since somebody sent one or began to listen.

        A sender reads the key of the exchange, and Redis knows how long ago that was. To ask for that, or for the names of
        keys, does not count as reading.
        """
        keys = {str(key).removeprefix(BINDING): key for key in self.redis.scan_iter(f"{BINDING}*")}
        idle = {name: self.redis.object("idletime", key) for name, key in keys.items()}
        return {name: seconds for name, seconds in idle.items() if seconds is not None and not _is_internal(name)}

    def _ask_all(self, question: str, limit: int) -> dict[str, Any]:
        """Return what the workers answer, by node; at once when `limit` have."""
        with self._connections.acquire(block=True) as connection:
            return _by_node(self._mailbox(connection).multi_call(question, timeout=ANSWER, limit=limit or None))

    def _ask(self, question: str, nodes: Iterable[str], **arguments: Any) -> dict[str, Any]:
        """Return what `nodes` answer, by node; at once when all have."""
        if not (asked := list(nodes)):
            return {}
        with self._connections.acquire(block=True) as connection:
            return _by_node(self._mailbox(connection).call(asked, question, arguments, timeout=ANSWER))

    def _tell(self, worker: str, command: str, **arguments: str) -> None:
        with self._connections.acquire(block=True) as connection:
            self._mailbox(connection).cast([names.node_name(worker)], command, arguments)

    def close(self) -> None:
        """Let go of the connections."""
        self.redis.close()
        self._connections.force_close_all()


def _by_node(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {node: answer for one in answers for node, answer in one.items()}


def _is_internal(exchange: str) -> bool:
    """Return whether Celery uses an exchange for itself: questions to workers, their answers, events."""
    return exchange.endswith("pidbox") or exchange.startswith("celeryev")
