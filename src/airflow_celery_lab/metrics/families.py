"""What was seen of a lab, in Prometheus's text format. Data and rules; nothing is asked here.

What can go down is a gauge. The counters and histograms count entries of Airflow's database that stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import ProcessStatus

PREFIX = "airflow_lab_"
#: Seconds up to which waits are counted together: a free slot takes a task within the first ones.
WAITS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Seconds up to which runs are counted together.
RUNS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
#: Entries of Airflow's log of events: the executor's, Airflow's own for a worker that hangs, and the executor's again.
WORKER_LOST, HEARTBEAT_TIMEOUT, MESSAGE_LOST = "worker lost", "heartbeat timeout", "message lost"


class Spread(NamedTuple):
    """How long something took for many tries of tasks."""

    counts: Sequence[int]  #: how many took at most so long as each of the bounds, one after the other
    total: int  #: all of them
    seconds: float  #: of all of them together


class Group(NamedTuple):
    """The tries of one queue's tasks that are, or ended, in one state."""

    queue: str
    state: str
    tasks: int  #: tasks whose newest try this is
    oldest: float  #: seconds for which one of them has been queued, at most
    waits: Spread  #: from queued to started; of tries that ended, as `runs`
    runs: Spread  #: from started to ended


class Loss(NamedTuple):
    """Entries of one kind in Airflow's log of events."""

    event: str
    worker: str  #: empty where the entry names none
    entries: int  #: one for each task
    moments: int  #: at which they were found


@dataclass(frozen=True)
class Seen:
    """What was seen in one look at the lab."""

    processes: Sequence[ProcessStatus]
    workers: Sequence[Worker]
    queues: Sequence[Queue]
    reserved: Mapping[str, int] = field(default_factory=dict)  #: messages that a worker has taken and not begun
    groups: Sequence[Group] = ()
    losses: Sequence[Loss] = ()
    redis: str | None = None  #: reason why it does not answer, None when it does
    postgres: str | None = None


class _Families(Collector):
    """Hands over what is there already: the library formats, and collects nothing by itself."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        """Return them; the registry calls this."""
        return self._families


def text(seen: Seen) -> str:
    """Return Prometheus's text format, version 0.0.4. What could not be seen is left out: a zero would be wrong."""
    registry = CollectorRegistry()
    registry.register(_Families(families(seen)))
    return generate_latest(registry).decode()


def families(seen: Seen) -> Iterator[Metric]:
    """Yield the metrics of what was seen."""
    ready = [([process.name, process.kind], process.ready) for process in seen.processes]
    yield _gauge("process_ready", "Whether a process is ready, as `status` shows it.", ["process", "kind"], ready)
    if seen.redis is None:
        yield from _of_redis(seen)
    if seen.postgres is None:
        yield from _of_postgres(seen)
    errors = [(["redis"], seen.redis is not None), (["postgres"], seen.postgres is not None)]
    yield _gauge("scrape_error", "Whether a server did not answer; what it knows is left out.", ["source"], errors)


def _of_redis(seen: Seen) -> Iterator[Metric]:
    slots = [([worker.name], worker.concurrency) for worker in seen.workers]
    yield _gauge("worker_slots", "Tasks that a worker runs at a time.", ["worker"], slots)
    running = [([worker.name], worker.running) for worker in seen.workers]
    yield _gauge("worker_running_tasks", "Tasks in a worker's slots.", ["worker"], running)
    reserved = [([name], number) for name, number in seen.reserved.items()]
    yield _gauge("worker_reserved_tasks", "Tasks that a worker has taken from a queue and not begun.", ["worker"], reserved)
    messages = [([queue.name], queue.waiting) for queue in seen.queues]
    yield _gauge("queue_messages", "Messages in a queue that no worker has taken.", ["queue"], messages)
    listeners = [([queue.name], len(queue.listeners)) for queue in seen.queues]
    yield _gauge("queue_listeners", "Workers that listen to a queue.", ["queue"], listeners)


def _of_postgres(seen: Seen) -> Iterator[Metric]:
    tasks = [([group.queue, group.state], group.tasks) for group in seen.groups if group.tasks]
    yield _gauge("tasks", "Task instances in Airflow's database, by the state of their newest try.", ["queue", "state"], tasks)
    # From the start on: Prometheus does not count the first of a series that was not there before it.
    groups: dict[str, list[Group]] = {queue.name: [] for queue in seen.queues}
    for group in seen.groups:
        groups.setdefault(group.queue, []).append(group)
    oldest = [([queue], max((group.oldest for group in those), default=0.0)) for queue, those in groups.items()]
    yield _gauge("oldest_queued_task_seconds", "For how long a task has been queued, at most.", ["queue"], oldest)
    waits = {queue: [group.waits for group in those] for queue, those in groups.items()}
    yield _histogram("task_latency_seconds", "From queued to started, for tries that have ended.", WAITS, waits)
    runs = {queue: [group.runs for group in those] for queue, those in groups.items()}
    yield _histogram("task_run_time_seconds", "From started to ended.", RUNS, runs)
    yield from _of_losses(seen)


def _of_losses(seen: Seen) -> Iterator[Metric]:
    workers = {process.name: 0 for process in seen.processes if process.kind == "worker"}
    workers |= {loss.worker: loss.moments for loss in seen.losses if loss.event == WORKER_LOST}
    lost = [([worker], moments) for worker, moments in workers.items()]
    yield _counter("workers_lost", "How often a worker was lost while it had tasks.", ["worker"], lost)
    tries = [([event], _entries(seen, event)) for event in (WORKER_LOST, HEARTBEAT_TIMEOUT)]
    yield _counter("tasks_lost", "Tries of tasks that were lost with their worker.", ["event"], tries)
    yield _counter("messages_sent_again", "Messages that were lost and sent again.", [], [([], _entries(seen, MESSAGE_LOST))])


def _entries(seen: Seen, event: str) -> int:
    return sum(loss.entries for loss in seen.losses if loss.event == event)


def _gauge(name: str, told: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _counter(name: str, told: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, told, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _histogram(name: str, told: str, bounds: Sequence[float], queues: Mapping[str, Sequence[Spread]]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, told, labels=["queue"])
    for queue, spreads in queues.items():
        counts = [sum(spread.counts[place] for spread in spreads) for place in range(len(bounds))]
        buckets = [*zip(map(floatToGoString, bounds), counts, strict=True), ("+Inf", sum(spread.total for spread in spreads))]
        family.add_metric([queue], buckets, sum(spread.seconds for spread in spreads))
    return family
