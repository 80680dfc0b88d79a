"""A worker to which a queue is given back that was taken from it keeps the queue when Redis goes away and comes back.

Celery forgets such a queue then: `cancel_consumer` strikes it off the list of those that a worker consumes from when it
connects again, and `add_consumer` does not put back a name that it knows already (Celery 5.6, `Consumer.add_task_queue`).
"""

from __future__ import annotations

from typing import Any

from celery.worker import control

of_celery = control.add_consumer


@control.control_command(name="add_consumer", signature="<queue> [exchange [type [routing_key]]]")  # type: ignore[untyped-decorator]  # Celery has no types
def add_consumer(state: Any, queue: str, **options: Any) -> Any:
    """Tell a worker to consume from a queue, and to do so when it connects again."""
    answer = of_celery(state, queue, **options)
    state.consumer.call_soon(_remember, state.consumer.app.amqp.queues, queue)  # After the worker has made it, if it is new.
    return answer


def _remember(queues: Any, queue: str) -> None:
    queues.select_add(queues[queue])
