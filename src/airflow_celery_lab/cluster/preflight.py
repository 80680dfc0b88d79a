"""What must be right before a lab is started, each with its sentence when it is not."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

import psutil

from airflow_celery_lab.cluster import limits
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import credentials, demand, environment, exposure, files, services
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.configuration.settings import BASE_PORTS, Settings
from airflow_celery_lab.errors import AlreadyRunningError, LabError, PortTakenError, SettingsError, StateFolderError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.servers import executables, probes, schema

#: Which port each kind of process listens on.
PORTS = {"postgres": "postgres", "redis": "redis", "api-server": "webserver", "flower": "flower", "scheduler": "scheduler"}
#: Bytes: an empty database with its write-ahead log is 70 MB, and logs grow.
SPACE = 300_000_000
#: Files: an empty database has a thousand.
INODES = 2000


def check(settings: Settings, expected: Mapping[str, Service], environ: Mapping[str, str]) -> None:
    """Do nothing when the lab can be started.

    Raises:
        LabError: the first thing that stands in its way.

    """
    for problem in problems(settings, expected, environ):
        raise problem


def problems(settings: Settings, expected: Mapping[str, Service], environ: Mapping[str, str]) -> Iterable[LabError]:
    """Yield everything that stands in the way of a start."""
    if running := registry.running(settings.state):
        yield AlreadyRunningError(
            f"the lab in {settings.home} runs already ({len(running)} processes); see `{typed()} status`, or set LAB_HOME and LAB_PORT_OFFSET for a second lab.",
            path=settings.home,
        )
        return
    yield from environment.conflicts(settings, environ)
    if not settings.dags.is_dir():
        yield SettingsError(
            f"the DAG folder {settings.dags} does not exist; create it, or set LAB_DAGS to another one.",
            path=settings.dags,
            setting="LAB_DAGS",
        )
    yield from _state_folder(settings)
    yield from limits.of_redis(demand.of(expected.values(), demand.Sizes()))
    kinds = {service.kind for service in expected.values()}
    for kind, find in (("postgres", executables.postgres_bin), ("redis", executables.redis_program)):
        if kind in kinds:
            try:
                find(settings)
            except LabError as error:
                yield error
    yield from _ports(settings, kinds)


def taken(settings: Settings, name: str, address: str = "") -> PortTakenError:
    """Return the error that another program has the port of `name`, on an `address` on which the lab is exposed or on its own."""
    port: int = getattr(settings.ports, name)
    where = f"port {port} of {address}" if address else f"port {port}"
    return PortTakenError(
        f"{where}, for {name}, is taken{_owner(port, address or settings.bind)}; stop that program, or move all the lab's ports with LAB_PORT_OFFSET={settings.ports.flower - BASE_PORTS['flower'] + 100}.",
        port=port,
    )


def _ports(settings: Settings, kinds: Collection[str]) -> Iterable[LabError]:
    for kind, name in PORTS.items():
        if kind in kinds and probes.port_taken(settings.bind, getattr(settings.ports, name)):
            yield taken(settings, name)
    # An address may come and go with a network; the gateway waits for it.
    if services.GATEWAY in kinds and (exposed := exposure.read(settings.state)) and probes.has_address(exposed.address):
        for name in exposure.SERVERS:
            if probes.port_taken(exposed.address, getattr(settings.ports, name)):
                yield taken(settings, name, exposed.address)


def _state_folder(settings: Settings) -> Iterable[LabError]:
    try:
        credentials.require_abilities(settings.home)
    except LabError as error:
        yield error
    with suppress(OSError):
        if (free := shutil.disk_usage(settings.home).free) < SPACE:
            yield StateFolderError(
                f"only {free // 1_000_000} MB are free for the state folder {settings.home}, and the lab needs {SPACE // 1_000_000}; free some, or set LAB_HOME to another disk.",
                path=settings.home,
            )
        if (left := files.free_inodes(settings.home)) is not None and left < INODES:
            yield StateFolderError(
                f"only {left} more files fit on the disk of the state folder {settings.home} (`df -i`), and the lab needs {INODES}; delete some, or set LAB_HOME to another disk.",
                path=settings.home,
            )
    try:
        schema.check_release(settings.state)
    except LabError as error:
        yield error


def _owner(port: int, address: str) -> str:
    """Return who listens on `port` of an address, or of all, where this user may know it."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or connection.laddr.port != port or not connection.pid:
                continue
            if {connection.laddr.ip, address} & {"0.0.0.0", "::"} or connection.laddr.ip == address:  # noqa: S104  # nothing is bound here
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return " by another program"
