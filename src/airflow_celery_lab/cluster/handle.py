"""The handle on one lab: what the command line, tests, experiments and notebooks all go through.

It does, waits and returns data. It logs what it does and prints nothing.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any

from airflow_celery_lab.cluster import background, faults, judgement, runs
from airflow_celery_lab.cluster.broker import Broker
from airflow_celery_lab.cluster.evidence import Look
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, procfile
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.procfile import Line, Processes
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import NotRunningError, UnknownProcessError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.supervision.supervisord import Supervisor
from airflow_celery_lab.supervision.wanted import Plan
from airflow_celery_lab.wait import wait_until

#: Is told, again and again, what is waited for.
OnWait = Callable[[str], None]
logger = logging.getLogger(__name__)


def quietly(_reason: str) -> None:
    """Tell nobody what is waited for."""


class Cluster:
    """One lab, running or not."""

    def __init__(self, lab: Lab, environ: Mapping[str, str]) -> None:
        self.lab = lab
        self._environ = environ

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ) -> Cluster:
        """Return the lab that `environ`, the project around the current folder and its `.env` describe.

        Raises:
            LabError: they cannot be used, or the state folder cannot.

        """
        return cls(labs.load(environ), environ)

    def __enter__(self) -> Cluster:  # noqa: PYI034  # typing.Self came with Python 3.11
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; the cluster itself goes on."""
        for name in ("api", "broker"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    @property
    def settings(self) -> Settings:
        """Its ports, paths and time limits."""
        return self.lab.settings

    @property
    def credentials(self) -> Credentials:
        """Its secrets."""
        return self.lab.credentials

    @cached_property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return AirflowApi(self.lab)

    @cached_property
    def broker(self) -> Broker:
        """Redis, as Celery uses it."""
        return Broker(self.lab)

    @cached_property
    def supervisor(self) -> Supervisor:
        """supervisord, which runs the lab in the background."""
        return Supervisor(self.lab)

    @property
    def records(self) -> dict[str, Record]:
        """The running processes, as their launchers describe them."""
        return registry.running(self.lab.state)

    def record(self, name: str) -> Record:
        """Return what the launcher of a running process says of it.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        if name not in (records := self.records):
            raise UnknownProcessError(
                f"no process {name!r} runs in the lab in {self.settings.home}; `{typed()} status` names those that do.", process=name
            )
        return records[name]

    def lines(self) -> list[Line]:
        """Return the lines of the project's Procfile, or of the default one.

        Raises:
            ProcfileError: it cannot be used.

        """
        return procfile.read(self.settings.project)

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Return the environment of a command in this lab; it holds secrets."""
        return environment.of_process(self.lab, name, self._environ)

    def require_running(self) -> None:
        """Do nothing when the lab runs.

        Raises:
            NotRunningError: no process of it runs.

        """
        if not self.records:
            raise NotRunningError(f"the lab in {self.settings.home} is not running; start it with `{typed()} up`.", path=self.settings.home)

    def require_background(self) -> None:
        """Do nothing when the lab runs in the background.

        Raises:
            ModeError: it runs in the foreground.
            NotRunningError: it does not run.

        """
        background.require(self.lab, self.supervisor)

    # Looking

    def status(self, expected: Mapping[str, Service] | None = None, *, details: bool = True) -> Status:
        """Look at everything once, and judge. `expected` is by default what runs, or what the Procfile names.

        Without `details` the memory and the DAG files that cannot be read are left out, which cost most.
        """
        supervised = self.supervisor.states()
        processes: Processes = self.supervisor.processes if supervised else {}
        if expected is None:
            expected = procfile.services_of(processes if supervised else procfile.instances(self.lines()))
        look = Look(self.lab, self.api, self.broker, self.supervisor)
        return judgement.judge(expected, look.gather(supervised, processes, details=details))

    def wait_until_ready(
        self, timeout: float | None = None, expected: Mapping[str, Service] | None = None, on_wait: OnWait = quietly
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
            return None if now.ready else judgement.lacking(now.not_ready)

        return wait_until(
            probe,
            timeout or self.settings.start_timeout,
            "the cluster",
            advice=f"see `{typed()} status` and the log of what is missing",
            interval=0.5,
            on_wait=on_wait,
        )

    def logs(self, name: str, lines: int = 20) -> list[str]:
        """Return the last lines that a process of the background lab has printed.

        Raises:
            UnknownProcessError: there is no log of that name.

        """
        if name not in (known := self.logged()):
            raise UnknownProcessError(
                f"there is no log of {name!r} in {self.lab.state.process_logs}; there is: {', '.join(known) or 'none yet'}.",
                path=self.lab.state.process_logs,
                process=name,
            )
        return self.supervisor.tail(name, lines)

    def logged(self) -> list[str]:
        """Return the names of the processes of the background lab that have a log."""
        return [path.stem for path in sorted(self.lab.state.process_logs.glob("*.log"))]

    # Changing what runs

    def up(self, counts: Mapping[str, int] | None = None, on_wait: OnWait = quietly) -> float:
        """Start the lab in the background, or what of it does not run, and return the seconds until all was ready.

        `counts` has how often a line of the Procfile runs, by its name, where that is not once. A lab that runs
        already keeps its processes: `apply` makes them those of the Procfile.

        Raises:
            LabError: something is in the way, or did not become ready.

        """
        begin = time.monotonic()
        target = procfile.instances(self.lines(), counts)
        background.up(self.lab, self.supervisor, target, self._environ)
        self.wait_for(list(self.supervisor.processes), on_wait)
        return time.monotonic() - begin

    def differs(self, counts: Mapping[str, int] | None = None) -> Plan:
        """Return what `apply` would do."""
        return wanted.plan(self.supervisor.processes, procfile.instances(self.lines(), counts))

    def apply(self, target: Processes | None = None, on_wait: OnWait = quietly) -> Plan:
        """Make the processes of the Procfile, or `target`, the running ones; touch only what differs; wait for what is new.

        Raises:
            LabError: the lab does not run in the background, or what is new did not become ready.

        """
        self.require_background()
        plan = self.supervisor.apply(procfile.instances(self.lines()) if target is None else target, on_wait)
        self.wait_for([*plan.added, *plan.changed], on_wait)
        return plan

    def scaled(self, counts: Mapping[str, int]) -> Processes:
        """Return what runs, with so many instances of the Procfile's lines as `counts` says.

        Raises:
            LabError: the lab does not run in the background, or the Procfile has no such line.

        """
        self.require_background()
        return wanted.scaled(self.supervisor.processes, self.lines(), counts)

    def scale(self, counts: Mapping[str, int], on_wait: OnWait = quietly) -> Plan:
        """Run lines of the Procfile so often as `counts` says, until `apply` or `down`; wait for what is new.

        Raises:
            LabError: as `scaled` and `apply`.

        """
        return self.apply(self.scaled(counts), on_wait)

    def start(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Start processes of the background lab, and wait until they are ready.

        Raises:
            LabError: the lab does not run in the background, has no such process, or one did not become ready.

        """
        background.require_known(self.lab, self.supervisor, names)
        self.supervisor.launch(names)
        self.wait_for(names, on_wait)

    def stop(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Stop processes of the background lab; a worker finishes its tasks first.

        Raises:
            LabError: the lab does not run in the background, or has no such process.

        """
        background.require_known(self.lab, self.supervisor, names)
        self.supervisor.stop(names, on_wait)

    def wait_for(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Wait until processes of the background lab are ready.

        Raises:
            NotReadyError: one of them cannot start, or it took longer than LAB_START_TIMEOUT.

        """
        background.wait_for(self.lab, self.supervisor, lambda: self.status(details=False), names, on_wait)

    def down(self, timeout: float | None = None, on_wait: OnWait = quietly) -> list[str] | None:
        """End the background lab: Postgres and Redis last, what takes longer than `timeout` seconds by force.

        Return the names of what had to be killed; None when the lab was not running.

        Raises:
            ModeError: it runs in the foreground.

        """
        return background.down(self.lab, self.supervisor, timeout, on_wait)

    # Breaking it

    def kill(self, name: str) -> int:
        """Kill a process with all that descends from it, at one moment; return how many died.

        Raises:
            UnknownProcessError: no process of that name runs.
            NotReadyError: some of them cannot be killed.

        """
        return faults.kill(self.record(name), self.supervisor)

    def pause(self, name: str) -> int:
        """Stop a program and all below it, as a hung machine; return how many.

        Raises:
            UnknownProcessError: no process of that name runs.
            NotReadyError: it has not become its program yet.

        """
        return faults.pause(self.record(name))

    def resume(self, name: str) -> int:
        """Let a paused program go on; return how many processes that were.

        Raises:
            UnknownProcessError: no process of that name runs.

        """
        return faults.resume(self.record(name))

    # Running DAGs

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG, and return the run's id. Waits a moment for a DAG whose file is new.

        Raises:
            UnknownDagError: there is no such DAG.

        """
        return runs.start(self.api, self.settings.dags, dag_id, conf or {})

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 300) -> Run:
        """Run a DAG, and return the run when it has ended, however it ended.

        Raises:
            UnknownDagError: there is no such DAG.
            NotReadyError: it has not ended after `timeout` seconds.

        """
        return runs.finish(self.api, dag_id, self.trigger(dag_id, conf), timeout)

    def look(self, dag_id: str, run_id: str) -> Run:
        """Return a run as it is now."""
        return runs.look(self.api, dag_id, run_id)

    def follow(self, dag_id: str, run_id: str, on_change: Callable[[Run], None]) -> Run:
        """Watch a run until it has ended, and return it; `on_change` sees each look.

        Raises:
            LabError: Airflow has not answered for a minute.

        """
        return runs.follow(self.api, dag_id, run_id, on_change)
