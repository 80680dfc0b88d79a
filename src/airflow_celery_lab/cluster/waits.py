"""For how long the tasks of a run have waited for a worker, put together from many looks at it. Data and rules; nothing is asked here.

Airflow keeps a task's last wait alone. When the task is deferred, rescheduled or queued anew, `scheduled_when` and
`queued_when` are set again, and after a deferral `start_date` stays what it was. When a worker takes the task once
more, only an event tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from airflow_celery_lab.cluster.moments import moment

#: States of a task that could run and waits for a worker.
WAITING = frozenset({"scheduled", "queued"})

#: Task id, map index and number of the try.
Key = tuple[str, int, int]


class Waits:
    """The waits of each try of each task."""

    def __init__(self) -> None:
        #: Since when those wait that wait now.
        self._since: dict[Key, float] = {}
        #: Seconds of the waits that have ended, by what Airflow last gave as their beginning.
        self._ended: dict[Key, dict[float, float]] = {}

    def lacks_events(self, instances: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether the end of a wait is not known without Airflow's events."""
        return any(
            begin not in self._ended.get(key(instance), {}) and _end(instance, begin, ()) is None
            for instance, begin in _taken(instances)
            if instance["start_date"]
        )

    def observe(self, instances: Iterable[Mapping[str, Any]], takes: Mapping[Key, Collection[float]]) -> None:
        """Take in one look at all tasks, and when workers took them, as far as events were asked for."""
        listed = list(instances)
        for instance in listed:
            begin = moment(instance["scheduled_when"])
            if instance["state"] in WAITING and begin is not None:
                self._since.setdefault(key(instance), begin)
        for instance, begin in _taken(listed):
            own = key(instance)
            if (end := _end(instance, begin, takes.get(own, ()))) is not None:
                self._ended.setdefault(own, {}).setdefault(begin, max(end - self._since.pop(own, begin), 0.0))

    def seconds(self, instance: Mapping[str, Any]) -> float | None:
        """Return the seconds for which a task's newest try has waited; None where no wait of it has ended."""
        own, begin, end = key(instance), moment(instance["scheduled_when"]), moment(instance["end_date"])
        waits = self._ended.get(own, {}).values()
        if not waits and not instance["start_date"] and begin and end:  # It ended before a worker took it.
            return max(end - self._since.get(own, begin), 0.0)
        return sum(waits) if waits else None


def key(instance: Mapping[str, Any]) -> Key:
    """Return what tells one try of a task of a run from all others; events have the same fields."""
    return instance["task_id"], -1 if instance["map_index"] is None else instance["map_index"], instance["try_number"]


def _taken(instances: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], float]]:
    """Yield the tasks that a worker has taken, or that ended, with the beginning of the wait before that."""
    for instance in instances:
        begin = moment(instance["scheduled_when"])
        if begin is not None and instance["state"] not in WAITING:
            yield instance, begin


def _end(instance: Mapping[str, Any], begin: float, takes: Collection[float]) -> float | None:
    """Return when a worker ended the wait that began at `begin`."""
    start = moment(instance["start_date"])
    if start is not None and start >= begin:
        return start
    return min((take for take in takes if take >= begin), default=None)
