"""Which machines that have joined live, as far as their leases tell. Data and rules; nothing is asked here.

A machine that renews its lease says with it which of its workers live, and is believed as this machine's own launchers
are. Of one that does not, nothing is known: that its lease is old proves no loss, as a link may be slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from airflow_celery_lab.configuration import names

#: Seconds without a renewal, of three that were due, after which a machine's workers are asked themselves.
QUIET = 6.0
#: Seconds after which a worker is gone if in all of them its machine has not renewed its lease, it has not answered, and
#: its task has not reported. Its task runs elsewhere within 30 s then.
LAPSED = 12.0


class Worker(NamedTuple):
    """A worker of this lab that lives."""

    incarnation: int | None  #: the pid of its launcher, which its successor of the same name does not have; None: unknown
    started: float  #: seconds since the epoch
    queues: frozenset[str]  #: of its line in the Procfile
    leaves: bool = False  #: it finishes its tasks, and takes no others
    far: bool = False  #: its link to Redis is slow or cut: that it has not answered yet says nothing


class Machine(NamedTuple):
    """What a machine has said last."""

    mark: tuple[str, int]  #: another one after each renewal
    workers: Mapping[str, Worker]  #: that live there, by name


class Machines:
    """Remembers when each machine was heard of. Times are seconds that were watched."""

    def __init__(self) -> None:
        self._known: dict[str, Machine] = {}
        self._heard: dict[str, float] = {}

    def note(self, said: Mapping[str, Machine] | None, now: float) -> None:
        """Take in what machines have said; None when Redis did not answer, and nobody could say anything."""
        if said is None:
            self._heard = dict.fromkeys(self._heard, now)
            return
        for name, machine in said.items():
            if name not in self._known or self._known[name].mark != machine.mark:
                self._heard[name] = now
        self._known = dict(said)
        self._heard = {name: moment for name, moment in self._heard.items() if name in said}

    def workers(self, now: float) -> dict[str, Worker]:
        """Return the workers that live on machines which renew their leases, by name."""
        return {
            name: worker for known, machine in self._known.items() if self._speaks(known, now) for name, worker in machine.workers.items()
        }

    def speaks(self, worker: str, now: float) -> bool:
        """Return whether the machine of a worker renews its lease: then it knows of that worker."""
        machine = names.machine_of(worker)
        return machine is not None and self._speaks(machine, now)

    def silence(self, worker: str, now: float) -> float | None:
        """Return for how long the machine of a worker has not renewed its lease; None where it has none."""
        machine = names.machine_of(worker)
        return now - self._heard[machine] if machine in self._heard else None

    def _speaks(self, machine: str, now: float) -> bool:
        return machine in self._heard and now - self._heard[machine] < QUIET
