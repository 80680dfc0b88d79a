"""A machine's lease: that it has joined, that it lives, and which workers run there, kept in the lab's Redis.

Each machine renews its own every RENEWAL seconds. How old a lease is, Redis's clock says and no other: those of the
machines may differ. Who reads again and again can do without clocks: a lease that is renewed has another number of `renewals`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from airflow_celery_lab.configuration import demand, names, services
from airflow_celery_lab.configuration.demand import Sizes
from airflow_celery_lab.launcher.registry import Record

#: Of the keys in Redis, with the machine's name after it.
PREFIX = "lab:machine:"
#: Seconds between two renewals.
RENEWAL = 2.0
#: Seconds after the last renewal for which Redis remembers a machine: an hour in which `status` says that it is away.
MEMORY = 3600
#: Seconds for which it is read that a machine has left: more than between two looks of a scheduler that is busy.
FAREWELL = 60.0
#: Seconds without a renewal after which a machine does not live, as far as its name can be given to another one.
LAPSE = 20.0


class RemoteWorker(NamedTuple):
    """A worker that runs on a machine, as its launcher says."""

    pid: int  #: of the launcher, which its successor of the same name does not have
    started: float  #: seconds since the epoch, by that machine's clock
    queues: tuple[str, ...]
    leaves: bool = False  #: it finishes its tasks, and takes no others
    slots: int = 0


class Lease(NamedTuple):
    """What a machine has said last."""

    machine: str
    key: str  #: of its membership
    renewals: int
    workers: Mapping[str, RemoteWorker]  #: by name
    age: float  #: seconds since then
    left: bool = False  #: it has said so
    dags: str = ""  #: hash of its DAG folder; "" where that cannot be read

    @property
    def lives(self) -> bool:
        """Whether it was renewed in time, and has not left."""
        return self.age < LAPSE and not self.left


def workers(records: Collection[Record], given: Sizes) -> dict[str, RemoteWorker]:
    """Return the workers among a machine's processes; one that does not say how many slots it has gets the `given` ones."""
    return {
        record.name: RemoteWorker(
            record.pid,
            record.started,
            tuple(record.queues),
            record.state == "stopping",
            demand.slots(services.describe(record.command), given),
        )
        for record in records
        if record.queues
    }


def renew(redis: Any, lease: Lease) -> None:
    """Write down that a machine lives, and what runs there."""
    text = json.dumps({**lease._asdict(), "workers": {name: worker._asdict() for name, worker in lease.workers.items()}})
    redis.set(PREFIX + lease.machine, text, ex=MEMORY)


def end(redis: Any, lease: Lease) -> None:
    """Write down that a machine has left, and none of its workers lives: one that was killed may have had tasks."""
    renew(redis, lease._replace(workers={}, left=True))


def read(redis: Any) -> dict[str, Lease]:
    """Return the leases of all machines that have not left, or just now, by the machine's name."""
    keys = sorted(_text(key) for key in redis.scan_iter(f"{PREFIX}*"))
    if not keys:
        return {}
    with redis.pipeline(transaction=False) as questions:
        for key in keys:
            questions.get(key)
            questions.pttl(key)
        answers = questions.execute()
    found = (parse(answers[2 * number], answers[2 * number + 1]) for number in range(len(keys)))
    return {lease.machine: lease for lease in found if lease is not None and not (lease.left and lease.age > FAREWELL)}


def parse(text: str | bytes | None, left: int) -> Lease | None:
    """Return the lease that Redis has as `text` and forgets in `left` milliseconds; None where it is none."""
    with suppress(TypeError, ValueError, AttributeError, KeyError):
        data = json.loads(text or "")
        # Another release of the lab may say more.
        data = {name: data[name] for name in Lease._fields if name in data}
        there = {name: RemoteWorker(**worker) for name, worker in data["workers"].items()}
        there = {name: worker for name, worker in there.items() if names.machine_of(name) == data["machine"]}
        return Lease(**{**data, "workers": there, "age": max(0.0, MEMORY - left / 1000)})
    return None


def _text(key: str | bytes) -> str:
    return key.decode() if isinstance(key, bytes) else key
