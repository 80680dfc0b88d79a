"""The handle on one lab: what the command line, the tests and the experiments all go through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any

import httpx
import psutil

from celery_lab import credentials, environment, identity, probes, procfile, registry, settings, status, supervisor
from celery_lab.airflow_api import AirflowApi
from celery_lab.broker import Broker, Queue, Worker
from celery_lab.credentials import ADMIN, Credentials
from celery_lab.errors import LabError, NotReadyError, NotRunningError
from celery_lab.registry import Record
from celery_lab.services import Service, describe
from celery_lab.settings import Settings
from celery_lab.status import Evidence, Status
from celery_lab.supervisor import Supervisor
from celery_lab.wait import wait_until


class Cluster:
    """One lab, running or not."""

    def __init__(self, config: Settings, secrets: Credentials) -> None:
        self.settings = config
        self.credentials = secrets

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ) -> Cluster:
        """Return the lab that `environ` and `.env` describe.

        Raises:
            LabError: they cannot be used, or the state folder cannot.

        """
        config = settings.load(environ)
        return cls(config, credentials.load_or_create(config.home))

    def __enter__(self) -> Cluster:  # noqa: PYI034  # typing.Self came with Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; the cluster itself goes on."""
        for name in ("api", "broker"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    @cached_property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return AirflowApi(self.settings, self.credentials)

    @cached_property
    def broker(self) -> Broker:
        """Redis, as Celery uses it."""
        return Broker(self.settings, self.credentials)

    @cached_property
    def supervisor(self) -> Supervisor:
        """supervisord, which runs the lab in the background."""
        return Supervisor(self.settings)

    @property
    def records(self) -> dict[str, Record]:
        """The running processes."""
        return registry.running(self.settings.home)

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Return the environment of a command in this lab; it holds secrets."""
        return environment.of_process(self.settings, self.credentials, name, os.environ)

    def require_running(self) -> None:
        """Do nothing when the lab runs.

        Raises:
            NotRunningError: no process of it runs.

        """
        if not self.records:
            raise NotRunningError(f"the lab in {self.settings.home} is not running; start it with `./lab up`.")

    def status(self, expected: Mapping[str, Service] | None = None, *, details: bool = True) -> Status:
        """Look at everything once, and judge. `expected` is by default what the Procfile names.

        Without `details` the memory and the DAG files that cannot be read are left out, which cost most.
        """
        records = self.records
        paused = _paused(records)
        supervised = self.supervisor.states()
        programs = self.supervisor.programs if supervised else {}
        if expected is None:
            expected = supervisor.services(programs) if supervised else procfile.expected(procfile.read())
        with ThreadPoolExecutor(max_workers=6) as pool:
            postgres = pool.submit(probes.postgres, self.settings, self.credentials)
            redis = pool.submit(probes.redis, self.settings, self.credentials)
            health = pool.submit(self._health, records)
            broker = pool.submit(self._broker, [record for name, record in records.items() if name not in paused])
            flower = pool.submit(self._flower, records)
            memory = pool.submit(_memory, records if details else {})
            workers, queues = broker.result()
            report = health.result()
            return status.judge(
                expected,
                Evidence(
                    records=records,
                    postgres=postgres.result(),
                    redis=redis.result(),
                    health=report,
                    workers=workers,
                    queues=queues,
                    flower=flower.result(),
                    import_errors=self._import_errors() if details and not isinstance(report, str) else [],
                    memory=memory.result(),
                    failures=self._failures(supervised, records),
                    paused=paused,
                    procfile_differs=bool(supervised) and _procfile_differs(programs),
                    heartbeats={} if isinstance(report, str) else _heartbeats(report),
                ),
            )

    def wait_until_ready(
        self,
        timeout: float | None = None,
        expected: Mapping[str, Service] | None = None,
        on_wait: Callable[[str], None] = lambda _reason: None,
    ) -> float:
        """Wait until every process is ready, and return the seconds that took.

        Raises:
            NotReadyError: it took longer than `timeout` seconds; says what was missing.
            NotRunningError: all processes have ended.

        """
        seen = False

        def probe() -> str | None:
            nonlocal seen
            now = self.status(expected, details=False)
            alive = any(process.state != "stopped" for process in now.processes)
            if seen and not alive:
                raise NotRunningError("every process of the lab has ended; see its log.")
            seen = seen or alive
            return None if now.ready else status.lacking(now.not_ready)

        return wait_until(
            probe,
            timeout or self.settings.start_timeout,
            "the cluster",
            advice="see `./lab status` and the log of what is missing",
            interval=0.5,
            on_wait=on_wait,
        )

    def tree(self, name: str) -> set[int]:
        """Return the pids of a process of this lab: its launcher's and all below.

        Raises:
            NotRunningError: there is none of that name.

        """
        record = self.records.get(name)
        if record is None:
            raise NotRunningError(f"no process {name!r} runs in the lab in {self.settings.home}; `./lab status` names those that do.")
        return _tree(record)

    def _health(self, records: Mapping[str, Record]) -> dict[str, Any] | str:
        try:
            return self.api.health()
        except httpx.TimeoutException:
            return "the api-server takes its time to answer"
        except httpx.TransportError:
            record = next((record for record in records.values() if describe(record.command).kind == "api-server"), None)
            return "the api-server does not answer yet" if record else "no api-server runs that could tell"
        except (httpx.HTTPError, ValueError) as error:
            return f"the api-server answers, but not with its health: {error}"

    def _broker(self, awake: Iterable[Record]) -> tuple[list[Worker], list[Queue]]:
        expected = sum(describe(record.command).kind == "worker" and record.state == "running" for record in awake)
        try:
            workers = self.broker.workers(expected) if expected else []
            return workers, self.broker.queues(workers)
        except Exception:  # noqa: BLE001  # kombu and redis raise many kinds; the probe of Redis tells the reason
            return [], []

    def _flower(self, records: Mapping[str, Record]) -> list[str] | str:
        if not any(describe(record.command).kind == "flower" for record in records.values()):
            return "not running"
        try:
            # `status` names the workers that Flower has heard of and that are alive.
            response = httpx.get(
                f"{self.settings.url('flower')}/api/workers",
                params={"status": 1},
                auth=(ADMIN, self.credentials.admin_password),
                timeout=2,
                trust_env=False,
            )
            response.raise_for_status()
            return [identity.worker_name(node) for node, alive in response.json().items() if alive]
        except (httpx.HTTPError, ValueError) as error:
            return f"Flower does not answer: {error}"

    def _failures(self, supervised: Mapping[str, str], records: Mapping[str, Record]) -> dict[str, str]:
        """Return the last words of processes that supervisord has given up on, or tries again later."""
        ends = registry.ends(self.settings.home)
        return {
            name: f"ended with status {ends.get(name, 'unknown')}, again and again; its last words: "
            + " | ".join(self.supervisor.tail(name, 2))
            for name, state in supervised.items()
            if state in {"FATAL", "BACKOFF"} and name not in records
        }

    def _import_errors(self) -> list[dict[str, Any]]:
        with suppress(LabError, NotReadyError, httpx.HTTPError):
            return self.api.import_errors()
        return []


def _procfile_differs(programs: Mapping[str, str]) -> bool:
    with suppress(LabError):
        return bool(supervisor.plan(programs, supervisor.wanted(procfile.read())))
    return True


def _paused(records: Mapping[str, Record]) -> list[str]:
    paused = []
    for name, record in records.items():
        with suppress(psutil.Error):
            if record.main_pid and psutil.Process(record.main_pid).status() == psutil.STATUS_STOPPED:
                paused.append(name)
    return paused


def _heartbeats(health: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    beats = {}
    for component, report in health.items():
        for key, value in report.items():
            if key.startswith("latest_") and isinstance(value, str):
                beats[component] = datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return beats


def _tree(record: Record) -> set[int]:
    with suppress(psutil.NoSuchProcess):
        return {record.pid, *(child.pid for child in psutil.Process(record.pid).children(recursive=True))}
    return set()


def _memory(records: Mapping[str, Record]) -> dict[str, float]:
    """Return megabytes by process, its whole tree counted, each shared page divided among its users."""
    memory = {}
    for name, record in records.items():
        total = 0
        for pid in _tree(record):
            with suppress(psutil.Error, OSError):
                info = psutil.Process(pid).memory_full_info()
                total += getattr(info, "pss", 0) or info.rss
        memory[name] = round(total / 1e6, 1)
    return memory
