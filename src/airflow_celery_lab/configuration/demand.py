"""What the processes of a lab ask of the servers and of the machine: data and rules, but for `wanted` and its file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from airflow_celery_lab.configuration import files, procfile
from airflow_celery_lab.configuration.services import DEFAULT_CONCURRENCY, FORKSERVER, Service
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import LabError

#: `[database] sql_alchemy_pool_size` and `sql_alchemy_max_overflow`, Airflow's own defaults. The lab sets no bound to the second
#: (config/airflow.cfg): what goes beyond is counted with the slots, whose tasks ask the api-server.
POOL_SIZE, MAX_OVERFLOW = 5, 10
#: Connections to Postgres for each slot: its own, from its task's end until it was idle for a while, and that of the api-server while
#: it answers the task. With 98 slots a burst of small tasks took 131 in all.
CONNECTIONS_OF_A_SLOT = 2
#: Pools of connections to Postgres that a process may fill; the api-server has another for asynchronous sessions.
POOLS = {"api-server": 2, "scheduler": 1, "dag-processor": 1, "triggerer": 1, "other": 1}
#: Connections to Redis: of a worker 10 whatever its slots (measured with Celery 5.6), and of everything else together.
CLIENTS_OF_A_WORKER, CLIENTS_OF_OTHERS = 10, 50
#: Megabytes, by proportional set size with Airflow 3.3.2 and a forkserver: all but the workers once tasks have run (50 less before),
#: a worker, a slot before its first task, and one that runs a small task (40 after it).
REST, WORKER, SLOT, BUSY_SLOT = 860, 85, 15, 75
#: The same of all but the workers, and of a worker, where each process imports Airflow by itself.
REST_APART, WORKER_APART = 980, 160


class Demand(NamedTuple):
    """What may be asked for at one moment."""

    workers: int = 0
    slots: int = 0  #: tasks that can run
    connections: int = 0  #: to Postgres
    clients: int = 0  #: of Redis
    apart: bool = False  #: each process imports Airflow by itself: there is no forkserver

    @property
    def memory(self) -> int:
        """Megabytes of the whole lab when all slots run a task."""
        return self._processes + self.slots * BUSY_SLOT

    @property
    def memory_at_rest(self) -> int:
        """Megabytes of the whole lab before the first task."""
        return self._processes + self.slots * SLOT

    @property
    def _processes(self) -> int:
        rest, worker = (REST_APART, WORKER_APART) if self.apart else (REST, WORKER)
        return rest + self.workers * worker


class Sizes(NamedTuple):
    """What the user's keys of Airflow's make of a process that does not say it."""

    slots: int = DEFAULT_CONCURRENCY  #: of a worker
    solo: bool = False  #: a worker has one slot, whatever it is told
    pool: int = POOL_SIZE + MAX_OVERFLOW  #: connections


def sizes(variables: Mapping[str, str]) -> Sizes:
    """Return the sizes that `variables` of Airflow's set; what is no number counts as its default, and Airflow refuses it."""

    def number(key: str, default: int) -> int:
        text = variables.get(f"AIRFLOW__{key}", "").strip()
        return int(text) if text.isdecimal() else default

    # `most,least`, as Celery's `--autoscale` takes it.
    most = variables.get("AIRFLOW__CELERY__WORKER_AUTOSCALE", "").partition(",")[0].strip()
    return Sizes(
        slots=int(most) if most.isdecimal() else number("CELERY__WORKER_CONCURRENCY", DEFAULT_CONCURRENCY),
        solo=variables.get("AIRFLOW__CELERY__POOL") == "solo",
        pool=number("DATABASE__SQL_ALCHEMY_POOL_SIZE", POOL_SIZE) + number("DATABASE__SQL_ALCHEMY_MAX_OVERFLOW", MAX_OVERFLOW),
    )


def slots(service: Service, given: Sizes) -> int:
    """Return how many tasks a process runs at a time: 0, but for a worker."""
    return (1 if given.solo else service.concurrency or given.slots) if service.kind == "worker" else 0


def of(services: Iterable[Service], given: Sizes) -> Demand:
    """Return what `services` ask for, each of them once."""
    services = list(services)
    concurrency = [number for service in services if (number := slots(service, given))]
    pools = sum(POOLS.get(service.kind, 0) for service in services)
    workers, total = len(concurrency), sum(concurrency)
    return Demand(
        workers=workers,
        slots=total,
        # A worker has one for a moment at its own start.
        connections=total * CONNECTIONS_OF_A_SLOT + workers + pools * given.pool,
        clients=workers * CLIENTS_OF_A_WORKER + CLIENTS_OF_OTHERS,
        apart=all(service.kind != FORKSERVER for service in services),
    )


def wanted(settings: Settings, environ: Mapping[str, str], given: Sizes) -> Demand:
    """Return what the processes ask for that the lab was last told to run, else those of its Procfile."""
    with suppress(OSError, ValueError, TypeError):
        return Demand(**json.loads(settings.state.demand.read_text(encoding="utf-8")))
    with suppress(LabError):  # What is wrong with the Procfile is said by what runs it.
        return of((line.service for line in procfile.of(settings, environ)), given)
    return Demand()


def write(state: State, demand: Demand) -> None:
    """Write down what the processes ask for that the lab is told to run; servers and scheduler are started for it."""
    with suppress(OSError):  # The disk may be full; then the Procfile's own counts.
        files.write(state.demand, json.dumps(demand._asdict()))


def forget(state: State) -> None:
    """Forget what `write` wrote down."""
    with suppress(OSError):
        state.demand.unlink(missing_ok=True)
