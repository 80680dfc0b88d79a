"""A worker of an experiment's own, as a line of the Procfile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_celery_lab.configuration import shell

#: The queue of an experiment's own workers.
QUEUE = "experiment"


@dataclass(frozen=True)
class WorkerLine:
    """What the line of a worker says."""

    slots: int
    queue: str = QUEUE
    least: int = 0  #: slots that it keeps at rest, where their number follows the load (`--autoscale`); 0: all
    variables: Mapping[str, str] = field(default_factory=dict)  #: of its environment, which no other process gets

    def command(self, prefix: str) -> str:
        """Return the command; `prefix` is what stands before `exec` in a line of the lab's."""
        start = shell.commands(prefix)[-1][0].start
        given = "".join(f"{name}={value} " for name, value in self.variables.items())
        size = f"--autoscale {self.slots},{self.least}" if self.least else f"--concurrency {self.slots}"
        return f"{prefix[:start]}{given}{prefix[start:]} exec airflow celery worker --queues {self.queue} {size} --without-mingle"

    def told(self, count: int) -> str:
        """Return what `count` such workers have, in words."""
        each = " each" if count > 1 else ""
        slots = f"{self.least} to {self.slots} slots" if self.least else f"{self.slots} slot{'s' if self.slots > 1 else ''}"
        # Of Airflow's variables the option's name says it all.
        options = "".join(f", {name.rpartition('__')[2].lower()}={value}" for name, value in self.variables.items())
        return f"with {slots}{each} on the queue {self.queue}{options}"
