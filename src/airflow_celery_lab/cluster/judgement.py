"""What a look at a lab proves: what is ready, and what is wrong. Data and rules; nothing is asked here."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from airflow_celery_lab.cluster.autoscaled import Autoscaled
from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.link_status import LinkStatus
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import names
from airflow_celery_lab.configuration.links import PROCESS
from airflow_celery_lab.configuration.services import COMPONENTS, FORKSERVER, GATEWAY, LINKS, Service, describe
from airflow_celery_lab.launcher.lease import Lease
from airflow_celery_lab.launcher.registry import Record


class Job(NamedTuple):
    """A component of Airflow's in one life, as it is in the database. Times are seconds since the epoch."""

    kind: str  #: a key of COMPONENTS
    name: str  #: of its process
    start: float
    beat: float  #: the newest heartbeat; the first one is a moment older than `start`


class Exposed(NamedTuple):
    """A lab that other machines may join."""

    address: str
    urls: Mapping[str, str]  #: where each server listens, with TLS
    there: bool  #: this machine has the address now


@dataclass(frozen=True)
class Evidence:
    """What was seen in one look at the lab."""

    records: Mapping[str, Record]
    postgres: str | None  #: reason why it does not answer, None when it does
    redis: str | None
    #: Airflow's own report on its components, or the reason why there is none.
    health: Mapping[str, Mapping[str, Any]] | str
    workers: Sequence[Worker]
    queues: Sequence[Queue]
    #: Names of the workers that Flower lists as alive, or the reason why it does not answer.
    flower: Sequence[str] | str
    import_errors: Sequence[Mapping[str, Any]] = ()
    plugin_errors: Sequence[Mapping[str, Any]] = ()  #: what Airflow could not import of plugins, and why
    memory: Mapping[str, float] = field(default_factory=dict)  #: megabytes of each process with its tree
    #: Why a process that should run does not, where that is known.
    failures: Mapping[str, str] = field(default_factory=dict)
    paused: Collection[str] = ()  #: names of the processes that were stopped like a hung machine
    #: Names of the workers that run a task themselves (`pool=solo`): until it ends they answer nobody.
    busy: Collection[str] = ()
    #: The files of each DAG that stands in more than one.
    shared_ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    #: The Procfile names other processes, or other commands, than were started.
    procfile_differs: bool = False
    supervised: Mapping[str, str] = field(default_factory=dict)  #: supervisord's states, by process
    #: Names of the processes that were started with other variables in `.env`.
    stale: Sequence[str] = ()
    #: What of the project's connections, variables and pools is not in the database as the file has it.
    unapplied: Sequence[str] = ()
    settings_file: str = ""  #: name of the file that they stand in
    #: Sentences on what the project's files ask for and does not get: packages, connections, variables and pools.
    refused: Sequence[str] = ()
    #: A lab that runs keeps this checkout from a new Python environment, for other requirements or another Python.
    newer_environment: bool = False
    jobs: Sequence[Job] = ()  #: what Airflow's components say of themselves in the database
    pool: int | None = None  #: slots of Airflow's default pool, None where that is not known or it has no limit
    autoscaled: Sequence[Autoscaled] = ()  #: what autoscalers say of their lines
    machines: Mapping[str, Lease] = field(default_factory=dict)  #: that have joined the lab
    dags: str = ""  #: hash of the DAG folder, "" where it was not looked at
    links: Sequence[LinkStatus] = ()  #: from workers to servers, where any is carried or is not clean
    links_held: bool = False  #: the process that carries them has taken in how they are
    astray: Sequence[str] = ()  #: workers that go through links while others do not, or the other way round
    exposed: Exposed | None = None
    gateway: str | None = None  #: reason why it does not answer on the exposed address, None when it does, or when it is not asked
    forkserver: bool = True  #: does it answer?


@dataclass(frozen=True)
class ProcessStatus:
    """One process."""

    name: str
    kind: str
    state: str  #: stopped, failed, waiting, running, paused, draining or stopping
    pid: int | None
    ready: bool
    reason: str  #: why it is not ready
    memory_mb: float | None


@dataclass(frozen=True)
class Status:
    """The whole lab."""

    ready: bool
    processes: list[ProcessStatus]
    workers: list[Worker]
    queues: list[Queue]
    warnings: list[str]
    autoscaled: list[Autoscaled] = field(default_factory=list)  #: the lines that have an autoscaler
    links: list[LinkStatus] = field(default_factory=list)  #: of the workers, where any is carried or is not clean
    exposed: Exposed | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what `lab status --json` prints."""
        data = asdict(self)
        data["workers"] = [worker._asdict() for worker in self.workers]
        data["queues"] = [queue._asdict() for queue in self.queues]
        data["autoscaled"] = [line._asdict() for line in self.autoscaled]
        data["links"] = [link._asdict() for link in self.links]
        data["exposed"] = self.exposed._asdict() if self.exposed else None
        return data

    @property
    def not_ready(self) -> list[ProcessStatus]:
        """The processes that are not ready."""
        return [process for process in self.processes if not process.ready]


def lacking(processes: Sequence[ProcessStatus]) -> str:
    """Return in one line why `processes` are not ready, those with one reason together."""
    names: dict[str, list[str]] = {}
    for process in processes:
        names.setdefault(process.reason, []).append(process.name)
    return "; ".join(f"{', '.join(those)}: {reason}" for reason, those in names.items())


def judge(expected: Mapping[str, Service], evidence: Evidence) -> Status:
    """Return the status that the evidence proves; what is not confirmed is not ready."""
    services = dict(expected)
    for name, record in evidence.records.items():
        services.setdefault(name, describe(record.command))
    processes = [_process(name, service, services, evidence) for name, service in services.items()]
    return Status(
        ready=all(process.ready for process in processes),
        processes=processes,
        workers=list(evidence.workers),
        queues=list(evidence.queues),
        warnings=_warnings(evidence),
        autoscaled=list(evidence.autoscaled),
        links=list(evidence.links),
        exposed=evidence.exposed,
    )


def _process(name: str, service: Service, services: Mapping[str, Service], evidence: Evidence) -> ProcessStatus:
    record = evidence.records.get(name)
    if record is None and service.kind == "own" and _lives_unrecorded(name, evidence):
        return ProcessStatus(name, service.kind, "running", None, ready=True, reason="", memory_mb=None)
    if record is None:
        reason = evidence.failures.get(name)
        return ProcessStatus(
            name, service.kind, "failed" if reason else "stopped", None, ready=False, reason=reason or "not running", memory_mb=None
        )
    if name in evidence.paused:
        return ProcessStatus(
            name,
            service.kind,
            "paused",
            record.main_pid,
            ready=False,
            reason=f"paused; `{typed()} resume {name}`",
            memory_mb=evidence.memory.get(name),
        )
    # It has been told to listen to nothing, and ends when its tasks have.
    draining = record.state == "running" and any(name == line.draining for line in evidence.autoscaled)
    if draining:
        unproven = None
    else:
        unproven = _unproven(name, service, record, services, evidence) if record.state == "running" else record.reason or record.state
    reason = unproven or ""
    return ProcessStatus(
        name,
        service.kind,
        "draining" if draining else record.state,
        record.main_pid or record.pid,
        ready=not reason,
        reason=reason,
        memory_mb=evidence.memory.get(name),
    )


def _lives_unrecorded(name: str, evidence: Evidence) -> bool:
    """Return whether a process without a launcher lives: supervisord says so, or honcho would have ended all others."""
    if evidence.supervised:
        return evidence.supervised.get(name) in {"STARTING", "RUNNING"}
    return any(record.supervisor == "honcho" for record in evidence.records.values())


def _unproven(name: str, service: Service, record: Record, services: Mapping[str, Service], evidence: Evidence) -> str | None:
    """Return what is missing to call a running process ready."""
    if evidence.redis and names.machine_of(name):  # In a folder that has joined another machine's lab all need that.
        return evidence.redis
    if service.kind == "postgres":
        return evidence.postgres
    if service.kind == "redis":
        return evidence.redis
    if service.kind in COMPONENTS:
        return _component(name, service.kind, record, evidence)
    if service.kind == "worker":
        return _worker(name, record.queues or service.queues, evidence.workers)
    if service.kind == FORKSERVER:
        return None if evidence.forkserver else "it imports Airflow"
    if service.kind == LINKS:
        return None if evidence.links_held else "it has not taken in how the links are"
    if service.kind == "flower":
        if isinstance(evidence.flower, str):
            return evidence.flower
        wanted = {other for other, of in services.items() if of.kind == "worker" and other in evidence.records}
        missing = sorted(wanted - set(evidence.flower) - set(evidence.busy))
        return f"does not list {', '.join(missing)} yet" if missing else None
    return evidence.gateway if service.kind == GATEWAY else None


def _component(name: str, kind: str, record: Record, evidence: Evidence) -> str | None:
    if isinstance(evidence.health, str):
        return evidence.health
    component = COMPONENTS[kind]
    status = evidence.health.get(component, {}).get("status")
    if status != "healthy":
        return f"Airflow reports {component} as {status or 'missing'}"
    return None if kind == "api-server" else _heartbeat(name, kind, record, evidence)


def _heartbeat(name: str, kind: str, record: Record, evidence: Evidence) -> str | None:
    """Return what is missing while a component has not sent a heartbeat from its loop in this life, and to this life of Postgres.

    Airflow calls it healthy before that: for a predecessor, for what it wrote down before its loop began, and for what
    it told a Postgres with which its connections have gone; a component may end when it notices that.
    """
    kinds = {other: describe(of.command).kind for other, of in evidence.records.items()}
    alone = list(kinds.values()).count(kind) == 1
    beats = [job.beat for job in evidence.jobs if job.kind == kind and (alone or job.name == name) and job.beat > job.start >= record.since]
    if not beats:
        return "no heartbeat since it was started"
    postgres = max((evidence.records[other].since for other, of in kinds.items() if of == "postgres"), default=0.0)
    return None if max(beats) > postgres else "no heartbeat since Postgres was started"


def _worker(name: str, queues: Sequence[str], workers: Sequence[Worker]) -> str | None:
    worker = next((worker for worker in workers if worker.name == name), None)
    if worker is None:
        return "does not answer a Celery ping yet"
    missing = sorted(set(queues) - set(worker.queues))
    return f"does not listen on {', '.join(missing)}" if missing else None


def _warnings(evidence: Evidence) -> list[str]:
    warnings = [_unheard(queue, evidence) for queue in evidence.queues if queue.waiting and not queue.listeners]
    warnings += _bounds(evidence)
    warnings += _links(evidence)
    if evidence.procfile_differs:
        warnings.append(f"the Procfile differs from what runs: `{typed()} apply` applies it")
    foreground = any(record.supervisor == "honcho" for record in evidence.records.values())
    if evidence.newer_environment:
        start = "Ctrl-C, then start it again" if foreground else f"`{typed()} down`, then `{typed()} up -d`"
        if not evidence.records:
            start = "stop the other lab of this checkout"
        warnings.append(f"what the Python environment is made from has changed, and a newer one waits: {start}")
    if evidence.stale:
        who = "the cluster" if len(evidence.stale) == len(evidence.records) else ", ".join(evidence.stale)
        advice = "press Ctrl-C and start it again" if foreground else f"`{typed()} apply` starts what is concerned again"
        warnings.append(f".env has changed since {who} started: {advice}")
    warnings += _machines(evidence)
    if evidence.exposed:
        warnings += exposed(evidence.exposed.address, there=evidence.exposed.there)
    warnings += evidence.refused
    if evidence.unapplied:
        advice = "press Ctrl-C and start it again" if foreground else f"`{typed()} apply` applies it"
        warnings.append(
            f"{evidence.settings_file} has changed, and Airflow does not have it yet: {', '.join(evidence.unapplied)}: {advice}"
        )
    warnings += [
        f"the plugin {error.get('source')} cannot be imported: {_exception(str(error.get('error', '')))}; correct it, and start the lab again"
        for error in evidence.plugin_errors
    ]
    warnings += [shared(dag_id, files) for dag_id, files in evidence.shared_ids.items()]
    return warnings + [
        f"the DAG file {error.get('filename')} cannot be read: {_exception(str(error.get('stack_trace', '')))}"
        for error in evidence.import_errors
    ]


def _machines(evidence: Evidence) -> list[str]:
    """Return what is wrong with the machines that have joined."""
    answering = {worker.name for worker in evidence.workers}
    told = []
    for name, one in evidence.machines.items():
        silent = [worker for worker in one.workers if worker not in answering]
        if one.left:
            continue
        if not one.lives:
            told.append(f"the machine {name} has not been heard of for {one.age:.0f} s: see that it runs and that its cable is in")
            continue
        if silent:
            told.append(f"{', '.join(silent)} runs and does not answer: see `{typed()} status` on {name}")
        if evidence.dags and one.dags and one.dags != evidence.dags:
            told.append(
                f"the DAG folder on {name} is not this machine's: tasks of DAGs that differ fail there, or do something else; "
                "copy the folder, or use the same commit"
            )
    return told


def exposed(address: str, *, there: bool) -> list[str]:
    """Return the warning of a lab that is exposed on an address which this machine does not have now."""
    warning = (
        f"the lab is exposed on {address}, which this machine does not have now, and the gateway waits for it: "
        f"`{typed()} expose --off` ends that, `{typed()} expose ADDRESS` names another one"
    )
    return [] if there else [warning]


def shared(dag_id: str, files: Sequence[str]) -> str:
    """Return the warning of a DAG that stands in more than one file."""
    return (
        f"the DAG {dag_id!r} stands in {', '.join(files[:-1])} and in {files[-1]}: Airflow takes it from the file that it has read last, "
        "and tasks of the other fail; give each its own id"
    )


def _unheard(queue: Queue, evidence: Evidence) -> str:
    """Return why tasks wait on a queue to which no worker says that it listens: one that is stopped or hangs listens still."""
    told = f"{queue.waiting} task{'s wait' if queue.waiting > 1 else ' waits'} on the queue {queue.name!r}, "
    answering = {worker.name for worker in evidence.workers}
    silent = [name for name, record in evidence.records.items() if queue.name in record.queues and name not in answering]
    if paused := [name for name in silent if name in evidence.paused]:
        return (
            told + f"whose worker {', '.join(paused)} is stopped like a hung machine: `{typed()} resume {' '.join(paused)}` lets it go on"
        )
    if silent and any(link.cut and link.server == "redis" for link in evidence.links):
        return told + f"whose worker {', '.join(silent)} does not reach Redis: `{typed()} heal redis` lets it take them"
    if silent:
        return told + f"whose worker {', '.join(silent)} runs and does not answer: see its log, or `{typed()} restart {' '.join(silent)}`"
    return told + (
        f"which no worker listens to: add it to a worker's --queues in the Procfile, or run "
        f"`{typed()} airflow celery add-queue -H celery@WORKER -q {queue.name}`"
    )


def _links(evidence: Evidence) -> list[str]:
    """Return which links of the workers are not clean, and which workers do not go through them as others do."""
    told = [
        f"the workers' link to {link.server} is {'cut' if link.cut else 'slow'}: `{typed()} heal {link.server}` makes it clean"
        for link in evidence.links
        if link.cut or link.delay
    ]
    linked = [name for name, record in evidence.records.items() if record.linked]
    if linked and PROCESS not in evidence.records:
        told.append(
            f"workers that go through {PROCESS}, which does not run, reach no server ({', '.join(linked)}): "
            f"`{typed()} start {PROCESS}`, or `{typed()} heal --off`"
        )
    if astray := ", ".join(name for name in evidence.astray if evidence.records[name].state != "stopping"):
        told.append(
            f"workers that do not go through links as others do: {astray}; `{typed()} apply` starts them again"
            if evidence.links
            else f"workers that still go through links: {astray}; `{typed()} heal --off` starts them again without"
        )
    return told


def _bounds(evidence: Evidence) -> list[str]:
    """Return what keeps Airflow from filling the workers' slots."""
    slots = sum(worker.concurrency for worker in evidence.workers)
    schedulers = {name: record.parallelism for name, record in evidence.records.items() if record.parallelism}
    told = []
    if schedulers and sum(schedulers.values()) < slots:
        names, most = " ".join(schedulers), sum(schedulers.values())
        told.append(
            f"the workers have {slots} slots, and the scheduler runs {most} tasks at a time: "
            f"raise AIRFLOW__CORE__PARALLELISM if you have set it, and run `{typed()} restart {names}`"
        )
    if evidence.pool is not None and evidence.pool < slots:
        told.append(
            f"the workers have {slots} slots, and Airflow's default_pool lets {evidence.pool} tasks run at a time: "
            f"`{typed()} airflow pools set default_pool {slots} ''` raises it"
        )
    return told


def _exception(trace: str) -> str:
    """Return the exception of a traceback and the line of the user's file, else the first line of what Airflow says."""
    lines = trace.strip().splitlines()
    places = [match[1] for line in lines if (match := re.match(r'\s+File ".*", line (\d+)', line))]
    # After the last frame stands the exception, whose message may have many lines.
    after = max((number for number, line in enumerate(lines) if line.startswith((" ", "\t"))), default=-1) + 1
    told = next((line for line in lines[after if places else 0 :] if re.match(r"[\w.]+(:|$)", line)), None)
    if not lines:
        return "no reason given"
    return (told or lines[0]) + (f" (line {places[-1]})" if places else "")
