"""Everything through which one lab can be reached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from airflow_celery_lab.cluster.broker import Broker
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import demand, environment, exposure, membership, procfile, services
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.procfile import Line
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import ModeError, NotRunningError, UnknownProcessError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.launcher.lease import Lease
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.supervision.supervisord import Supervisor

if TYPE_CHECKING:
    from typing_extensions import Self  # The standard library has it from Python 3.11 on.


class Living(NamedTuple):
    """A worker that runs."""

    slots: int
    started: float  #: seconds since the epoch, by its machine's clock


class Connections:
    """One lab, running or not. Connections are made when they are needed."""

    def __init__(self, lab: Lab, environ: Mapping[str, str]) -> None:
        self.lab = lab
        self._environ = environ

    @classmethod
    def open(cls, environ: Mapping[str, str] = os.environ, *, writing: bool = True) -> Self:
        """Return the lab that `environ`, the project around the current folder and its `.env` describe.

        Without `writing` its state folder is only read, and must hold a lab: for what can be done on a full disk too.

        Raises:
            LabError: they cannot be used, or the state folder cannot.

        """
        return cls(labs.load(environ, writing=writing), environ)

    def __enter__(self) -> Self:
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

    def machines(self) -> dict[str, Lease]:
        """Return the machines that have joined the lab, by name; none where Redis does not answer."""
        if exposure.read(self.lab.state) is None:  # Nobody can join it.
            return {}
        from redis.exceptions import RedisError  # Most commands ask no Redis.

        try:
            return self.broker.machines()
        except (RedisError, OSError):
            return {}

    def living(self) -> dict[str, Living]:
        """Return the workers that run, here and on machines that have joined."""
        given = environment.sizes(self.lab, self._environ)
        here = {
            name: Living(demand.slots(services.describe(record.command), given), record.started) for name, record in self.records.items()
        }
        there = {
            name: Living(worker.slots, worker.started)
            for machine in self.machines().values()
            if machine.lives
            for name, worker in machine.workers.items()
        }
        return {name: worker for name, worker in {**here, **there}.items() if worker.slots}

    def slots(self) -> dict[str, int]:
        """Return how many tasks each worker that runs takes at a time."""
        return {name: worker.slots for name, worker in self.living().items()}

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
        return procfile.of(self.settings, self._environ)

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Return the environment of a command in this lab; it holds secrets."""
        return environment.of_process(self.lab, name, self._environ)

    def launching(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a launcher (`exec`) in this lab, with `variables` of the lab's own."""
        return {**environment.of_supervisor(self.lab, self._environ), **variables}

    def require_main(self) -> None:
        """Do nothing when this folder runs a lab of its own.

        Raises:
            ModeError: it has joined another machine's lab.

        """
        if member := membership.read(self.lab.state):
            raise ModeError(
                f"this folder runs workers for the lab on {member.address}; type that on that machine.", path=self.settings.home
            )

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
        if self.supervisor.running:
            return
        home, me = self.settings.home, typed()
        if any(record.supervisor == "honcho" for record in self.records.values()):
            raise ModeError(
                f"the lab in {home} runs in the foreground, under honcho, which cannot do this; press Ctrl-C there and run `{me} up -d`.",
                path=home,
            )
        raise NotRunningError(f"the lab in {home} does not run in the background; start it with `{me} up -d`.", path=home)
