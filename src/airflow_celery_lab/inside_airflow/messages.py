"""Where Celery's messages are: in the lists of Redis, or with a worker. The executor's questions to both."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, timeout
from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from airflow_celery_lab.configuration import names
from airflow_celery_lab.inside_airflow import custody
from airflow_celery_lab.inside_airflow.custody import Answer, Questions
from airflow_celery_lab.launcher import lease
from airflow_celery_lab.launcher.lease import Lease

#: Seconds that workers have to answer, and those that may still be starting; one that is alive needs milliseconds.
ANSWER, SHORTLY = 1.0, 0.2
#: Seconds for one look; a Redis that hangs must not hang the scheduler.
DEADLINE = 3
#: What a Redis that is away or hangs makes of a question.
OUTAGE = (OperationalError, RedisError, AirflowTaskTimeout)


class _AllHaveAnsweredError(Exception):
    """Ends the wait for answers, of which Celery knows no number."""


class Messages:
    """The messages of one Celery app. All methods raise one of OUTAGE when Redis is away; use them within `deadline`."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        # Not of Celery's pool, which cannot be used any more once it was closed.
        self._connections: dict[str, Connection] = {}

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """End what takes longer than DEADLINE seconds; a connection that was cut off in the middle is used no further.

        Raises:
            OUTAGE: Redis is away, or hangs.

        """
        try:
            with timeout(seconds=DEADLINE):  # type: ignore[no-untyped-call]  # Airflow's own
                yield
        except OUTAGE:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connections; the next question makes new ones."""
        for connection in self._connections.values():
            with suppress(Exception):  # Whatever a broken connection answers to being closed.
                connection.release()
        self._connections.clear()

    def reach(self) -> None:
        """Do nothing where Redis answers."""
        self._redis.ping()

    def machines(self) -> dict[str, Lease]:
        """Return the leases of the machines that have joined, by name."""
        return lease.read(self._redis)

    def waiting(self, queues: Iterable[str]) -> set[str]:
        """Return the ids of the messages that wait in `queues`."""
        return {_id(message) for name in self._lists(queues) for message in self._redis.lrange(name, 0, -1)}

    def remove(self, messages: Collection[str], queues: Iterable[str]) -> None:
        """Let Redis give these messages to no worker any more: neither from `queues`, nor because nobody acknowledged them.

        What a worker took and did not acknowledge, Redis keeps, and delivers again after the visibility timeout.
        """
        for name, text in self._find(messages, queues):
            self._redis.lrem(name, 1, text)
        channel: Any = self._to("lists").default_channel
        taken = self._redis.hgetall(channel.unacked_key)
        if tags := [tag for tag, entry in taken.items() if _id_of_taken(entry) in messages]:
            self._redis.hdel(channel.unacked_key, *tags)
            self._redis.zrem(channel.unacked_index_key, *tags)

    def move_to_head(self, queue: str, message: str) -> None:
        """Let a message that waits be the next one that a worker takes."""
        for name, text in self._find([message], [queue]):
            # Workers take from the right. One that has taken it just now keeps it: it must not be there twice.
            if self._redis.lrem(name, 1, text):
                self._redis.rpush(name, text)

    def ask(self, questions: Questions) -> dict[str, Answer]:
        """Return what each worker answers: those that are expected have ANSWER seconds, newcomers have SHORTLY."""
        held = self._answers(questions, "query_task", ids=questions.messages) if questions.messages or questions.ping else {}
        queues = self._answers(questions, "active_queues") if questions.listeners else {}
        return {
            name: Answer(custody.held(held.get(name) or {}), tuple(queue["name"] for queue in queues[name]) if name in queues else None)
            for name in {**held, **queues}
        }

    def _answers(self, questions: Questions, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the answers to one of Celery's commands for inspection, by worker."""
        answers: dict[str, Any] = {}

        def wait(awaited: frozenset[str], seconds: float, destination: list[str] | None = None) -> None:
            def note(reply: Mapping[str, Any]) -> None:
                answers.update({names.worker_name(node): answer for node, answer in reply.items()})
                if awaited and awaited <= answers.keys():
                    raise _AllHaveAnsweredError

            connection = self._to("workers")
            with suppress(_AllHaveAnsweredError):
                self._app.control.broadcast(command, arguments, destination, connection, reply=True, timeout=seconds, callback=note)

        wait(questions.expected, ANSWER if questions.expected else SHORTLY)
        if newcomers := questions.newcomers - answers.keys():
            wait(newcomers, SHORTLY, [names.node_name(name) for name in newcomers])
        return answers

    def revoke(self, messages: Collection[str]) -> None:
        """Let no worker begin a task whose message it has after all."""
        self._app.control.revoke(list(messages), connection=self._to("workers"))

    def _to(self, whom: str) -> Connection:
        """Return the connection for this purpose. After a question to the workers, an answer may be outstanding on theirs."""
        if whom not in self._connections:
            self._connections[whom] = self._app.connection_for_write()
        return self._connections[whom]

    @property
    def _redis(self) -> Any:
        channel: Any = self._to("lists").default_channel
        return channel.client

    def _lists(self, queues: Iterable[str]) -> list[str]:
        """Return the lists in which kombu keeps the messages of `queues`: one a priority."""
        channel: Any = self._to("lists").default_channel
        return [channel._q_for_pri(queue, priority) for queue in queues for priority in channel.priority_steps]  # noqa: SLF001  # There is no other way to its names.

    def _find(self, messages: Collection[str], queues: Iterable[str]) -> list[tuple[str, bytes]]:
        return [(name, text) for name in self._lists(queues) for text in self._redis.lrange(name, 0, -1) if _id(text) in messages]


def _id(message: bytes) -> str:
    try:
        return _id_in(json.loads(message))
    except ValueError:  # Another program's.
        return ""


def _id_of_taken(entry: bytes) -> str:
    try:
        message, _exchange, _routing_key = json.loads(entry)
    except (ValueError, TypeError):
        return ""
    return _id_in(message)


def _id_in(message: Any) -> str:
    try:
        return str(message["headers"]["id"])
    except (KeyError, TypeError):
        return ""
