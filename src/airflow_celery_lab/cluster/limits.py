"""What servers and machine can give, against what the processes ask for."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration.demand import BUSY_SLOT, Demand
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import ProcfileError
from airflow_celery_lab.servers import probes

#: What Postgres gives to all but its superuser.
CONNECTIONS = "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
#: Redis's `maxclients`, and the open files that it keeps for itself out of those that the system allows.
CLIENTS, FILES_OF_REDIS = 10_000, 32
#: What bounds the memory of a container, and what of it is used (cgroup 2).
CONTAINER = Path("/sys/fs/cgroup")


def of_running_servers(lab: Lab, wanted: Demand) -> None:
    """Do nothing when the lab's servers, which run, can give what is `wanted`.

    Raises:
        ProcfileError: they cannot; their limits are set when they start.

    """
    _reason, given = probes.query(lab, CONNECTIONS)
    if given and wanted.connections > int(given):
        raise ProcfileError(
            f"{_who(wanted)} may open {wanted.connections} connections to Postgres at once, which was started for {given}; "
            f"ask for fewer slots, or run `{typed()} down` and start the lab with these processes, and it gives as many."
        )
    for problem in of_redis(wanted):
        raise problem


def of_redis(wanted: Demand) -> Iterator[ProcfileError]:
    """Yield a sentence where Redis cannot have so many clients on this machine."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = CLIENTS if hard == resource.RLIM_INFINITY else min(CLIENTS, hard - FILES_OF_REDIS)
    if wanted.clients > most:
        raise_it = "" if most == CLIENTS else ", or raise the number of open files (`ulimit -Hn`)"
        yield ProcfileError(f"{_who(wanted)} may make {wanted.clients} clients of Redis, which takes {most}; run fewer workers{raise_it}.")


def shortage(wanted: Demand, free: int, running: Demand | None = None) -> str | None:
    """Return a sentence when `free` megabytes may not be enough, for what is `wanted` beyond what is `running`.

    It is a warning: a slot takes its memory with its task, and what sleeps can be swapped out.
    """
    needed = wanted.memory - (running.memory if running else 0)
    if free >= needed:
        return None
    return (
        f"{_who(wanted)} take about {needed} MB {'more ' if running else ''}when all slots run a task ({BUSY_SLOT} MB each), "
        f"and {free} MB are free; close something, or lower the workers' --concurrency in the Procfile"
    )


def available() -> int:
    """Return the megabytes that programs can have yet, swap included, in this container or on this machine."""
    free: int = (psutil.virtual_memory().available + psutil.swap_memory().free) // 1_000_000
    with suppress(OSError, ValueError):  # Not in a container of that kind, or one without a bound.
        bound, used = (int((CONTAINER / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        free = min(free, (bound - used + int(cached.get("inactive_file", 0))) // 1_000_000)
    return free


def _who(wanted: Demand) -> str:
    return f"{wanted.workers} worker{'s' * (wanted.workers != 1)} with {wanted.slots} slots and the other processes"
