"""One look at a lab: everybody who knows something is asked, all at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from airflow_celery_lab.cluster import autoscaled, flower, link_status, trees
from airflow_celery_lab.cluster.autoscaled import Autoscaled
from airflow_celery_lab.cluster.broker import Broker, Queue, Worker
from airflow_celery_lab.cluster.judgement import Evidence, Exposed, Job
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.configuration import airflow_settings, exposure, likeness, links, membership, procfile, requirements
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.links import Links
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.configuration.services import COMPONENTS, GATEWAY, describe
from airflow_celery_lab.configuration.settings import NEWER_ENVIRONMENT
from airflow_celery_lab.errors import LabError, ProcfileError
from airflow_celery_lab.inside_airflow import shared_ids
from airflow_celery_lab.launcher import forkserver, markers, registry
from airflow_celery_lab.launcher.lease import Lease
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.servers import applied_settings, probes
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.supervision.supervisord import Supervisor

#: Seconds after which a worker that runs can be asked; it takes two, and ten times as long on a busy machine.
NEW = 60.0
#: Lines of a log in which the last life of a process that ends at once is looked for.
LIFE = 200


class _Airflow(NamedTuple):
    """What the api-server says."""

    health: dict[str, Any] | str
    jobs: list[Job]
    import_errors: list[dict[str, Any]] = []  # noqa: RUF012  # Nobody changes it.
    plugin_errors: list[dict[str, Any]] = []  # noqa: RUF012  # As above.
    pool: int | None = None


class Look:
    """What is asked, and whom."""

    def __init__(
        self,
        lab: Lab,
        environ: Mapping[str, str],
        api: Callable[[], AirflowApi],
        broker: Callable[[], Broker],
        supervisor: Supervisor,
    ) -> None:
        """Ask through `api` and `broker`, each of which takes a while to import: a thread of its own begins with that."""
        self._lab = lab
        self._environ = environ
        self._api = api
        self._broker = broker
        self._supervisor = supervisor
        self._member = membership.read(lab.state)

    def gather(self, supervised: Mapping[str, str], processes: Processes, *, details: bool, memory: bool) -> Evidence:
        """Return what is seen now. `supervised` are supervisord's states, `processes` what it was told to run.

        `memory` and `details`, such as the DAG files that cannot be read, cost most.
        """
        records = registry.running(self._lab.state)
        notes = autoscaled.read(self._lab.state)
        found = links.read(self._lab.state) if supervised else Links()
        paused = trees.paused(records)
        awake = {name: record for name, record in records.items() if name not in paused}
        busy = trees.busy({name: record for name, record in awake.items() if _is_worker(record)})
        record = exposure.read(self._lab.state)
        there = record is not None and probes.has_address(record.address)
        with ThreadPoolExecutor(max_workers=6) as pool:
            # First what keeps others busy: the kernel with counting, the api-server with answering.
            sizes = pool.submit(trees.memory, records if memory else {})
            airflow = pool.submit(self._airflow, records, details=details)
            flowers = pool.submit(self._flower, records)
            broker = pool.submit(self._workers, awake, busy)
            redis = pool.submit(self._redis)
            postgres = pool.submit(self._postgres)
            # An address that comes with a network which is not there now keeps nobody waiting.
            gateway = pool.submit(probes.gateway, self._lab, record) if record and there and runs(GATEWAY, awake) else None
            workers, queues, machines = broker.result()
            said = airflow.result()
            return Evidence(
                records=records,
                postgres=postgres.result(),
                redis=redis.result(),
                health=said.health,
                workers=workers,
                queues=queues,
                flower=flowers.result(),
                import_errors=said.import_errors,
                plugin_errors=said.plugin_errors,
                memory=sizes.result(),
                failures=self._failures(supervised, records),
                paused=paused,
                busy=busy,
                shared_ids=shared_ids.read(self._lab.settings) if details and runs("dag-processor", records) else {},
                supervised=supervised,
                stale=wanted.stale(records, self._lab.settings),
                unapplied=self._unapplied() if details and postgres.result() is None else (),
                settings_file=airflow_settings.path_of(self._lab.settings).name,
                refused=self._refused() if details else (),
                newer_environment=NEWER_ENVIRONMENT in self._environ,
                procfile_differs=bool(supervised) and self._differs(processes, notes),
                jobs=said.jobs,
                pool=said.pool,
                autoscaled=notes,
                machines=machines,
                dags=self._dags() if details and machines else "",
                links=link_status.look(found),
                links_held=link_status.is_held(self._lab.state, records),
                # An experiment lets its own workers alone go through links.
                astray=() if registry.is_held(self._lab.state.experiment_lock) else link_status.astray(records, found),
                exposed=Exposed(record.address, record.urls(self._lab.settings.ports), there) if record else None,
                gateway=gateway.result() if gateway else None,
                forkserver=forkserver.answers(self._lab.state),
            )

    def _postgres(self) -> str | None:
        return f"it is on {self._member.address}" if self._member is not None else probes.postgres(self._lab)

    def _redis(self) -> str | None:
        return probes.main_machine(self._lab.state, self._member) if self._member is not None else probes.redis(self._lab)

    def _airflow(self, records: Mapping[str, Record], *, details: bool) -> _Airflow:
        report, jobs = self._health(records)
        if isinstance(report, str) or not details:
            return _Airflow(report, jobs)
        return _Airflow(report, jobs, self._import_errors(), self._plugin_errors(), self._pool())

    def _health(self, records: Mapping[str, Record]) -> tuple[dict[str, Any] | str, list[Job]]:
        import httpx  # As in `rest`.

        if self._member is not None:
            return f"Airflow is on {self._member.address}", []
        try:
            return self._api().health(), _jobs(self._api().jobs())
        except httpx.TimeoutException:
            return "the api-server takes too long to answer", []
        except httpx.TransportError:
            return "the api-server does not answer yet" if runs("api-server", records) else "no api-server runs that could tell", []
        except LabError as error:
            return str(error), []
        except (httpx.HTTPError, ValueError) as error:
            return f"the api-server answers, but not with its health: {error}", []

    def _workers(self, awake: Mapping[str, Record], busy: Collection[str]) -> tuple[list[Worker], list[Queue], dict[str, Lease]]:
        expected = [name for name, record in awake.items() if _is_worker(record) and record.state == "running" and name not in busy]
        ask = self._broker()
        try:
            # One that has just been started and cannot be asked yet would be waited for in vain.
            new = {name for name in expected if time.time() - awake[name].since < NEW}
            if absent := new and new - ask.listening():
                expected = [name for name in expected if name not in absent]
            if self._member is not None:  # The others' state is theirs to tell.
                workers = ask.workers(len(expected), expected) if expected else []
                own = {queue for worker in workers for queue in worker.queues}
                return workers, [queue for queue in ask.queues(workers) if queue.name in own], {}
            # Nobody can join a lab that is not exposed.
            machines = ask.machines() if exposure.read(self._lab.state) else {}
            expected += [name for one in machines.values() if one.lives for name in one.workers]
            workers = ask.workers(len(expected)) if expected else []
            answering = {worker.name for worker in workers}
            workers += [Worker(name, sorted(awake[name].queues), 1, 1) for name in busy if name not in answering]
            return workers, ask.queues(workers), machines
        except Exception:  # noqa: BLE001  # kombu and redis raise many kinds; the probe of Redis tells the reason
            return [], [], {}

    def _flower(self, records: Mapping[str, Record]) -> list[str] | str:
        return flower.workers(self._lab) if runs("flower", records) else "not running"

    def _failures(self, supervised: Mapping[str, str], records: Mapping[str, Record]) -> dict[str, str]:
        """Return why processes do not run that supervisord has given up on, or tries again later."""
        failed = [name for name, state in supervised.items() if state in {"FATAL", "BACKOFF"} and name not in records]
        return {name: self._failure(name) for name in failed}

    def _failure(self, name: str) -> str:
        if error := self._supervisor.spawn_error(name):
            return f"supervisord cannot start it: {error}"
        status = registry.ends(self._lab.state).get(name, "unknown")
        words = markers.last_life(self._supervisor.tail(name, LIFE))[-2:]
        return f"ended with status {status}, again and again; " + (
            f"its last words: {' | '.join(words)}" if words else "it printed nothing"
        )

    def _import_errors(self) -> list[dict[str, Any]]:
        with suppress(LabError):
            return self._api().import_errors()
        return []

    def _plugin_errors(self) -> list[dict[str, Any]]:
        with suppress(LabError):
            return self._api().plugin_errors()
        return []

    def _pool(self) -> int | None:
        with suppress(LabError):
            slots = int(self._api().request("GET", "/pools/default_pool")["slots"])
            return slots if slots >= 0 else None
        return None

    def _dags(self) -> str:
        with suppress(OSError):
            return likeness.dags(self._lab.settings.dags)
        return ""

    def _refused(self) -> list[str]:
        settings = self._lab.settings
        return [*requirements.warnings(settings.project, self._environ), *airflow_settings.of(settings).refused]

    def _unapplied(self) -> list[str]:
        if not airflow_settings.of(self._lab.settings).entries or not (target := applied_settings.of_lab(self._lab)):
            return []
        return [entry.label for entry in applied_settings.differing(self._lab, target)]

    def _differs(self, processes: Processes, notes: Sequence[Autoscaled]) -> bool:
        try:
            lines = procfile.of(self._lab.settings, self._environ)
            return bool(
                wanted.plan(processes, wanted.beside(processes, procfile.instances(lines, autoscaled.kept(notes, processes, lines))))
            )
        except ProcfileError:
            return True


def runs(kind: str, records: Mapping[str, Record]) -> bool:
    """Return whether a process of that kind of service runs."""
    return any(describe(record.command).kind == kind for record in records.values())


def _is_worker(record: Record) -> bool:
    return describe(record.command).kind == "worker"


def _jobs(listed: Iterable[Mapping[str, Any]]) -> list[Job]:
    """Return the jobs that are components; Airflow calls that of the dag-processor DagProcessorJob."""
    kinds = {f"{kind.replace('-', '')}job": kind for kind in COMPONENTS}
    return [
        Job(kinds[kind], str(job["hostname"]), start, beat)
        for job in listed
        if (kind := str(job["job_type"]).lower()) in kinds
        and (start := moment(job["start_date"]))
        and (beat := moment(job["latest_heartbeat"]))
    ]
