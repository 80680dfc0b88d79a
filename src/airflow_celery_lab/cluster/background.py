"""Starting, waiting for and ending the lab in the background."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from airflow_celery_lab.cluster import faults, judgement, preflight
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.errors import ModeError, NotReadyError, NotRunningError, UnknownProcessError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.supervision.supervisord import Supervisor
from airflow_celery_lab.wait import wait_until

#: States of supervisord in which a process runs no more, and is not tried again.
ENDED = {"STOPPED", "EXITED", "FATAL"}
logger = logging.getLogger(__name__)


def up(lab: Lab, supervisor: Supervisor, target: Processes, environ: Mapping[str, str]) -> None:
    """Start `target`; where the lab runs already, start what of it has ended.

    Raises:
        LabError: something is in the way.

    """
    if states := supervisor.states():
        supervisor.launch(name for name, state in states.items() if state in ENDED)
        return
    preflight.check(lab.settings, procfile.services_of(target))
    logger.info("starting %d processes in %s", len(target), lab.state.home)
    supervisor.start(target, environ)


def down(lab: Lab, supervisor: Supervisor, timeout: float | None, on_wait: Callable[[str], None]) -> list[str] | None:
    """Do what `Cluster.down` says."""
    if not supervisor.running:
        if registry.running(lab.state):
            raise ModeError(f"the lab in {lab.state.home} runs in the foreground; press Ctrl-C there.", path=lab.state.home)
        return None
    services = procfile.services_of(supervisor.processes)
    servers = [name for name, service in services.items() if service.stops_last]
    killed = []
    for names in ([name for name in services if name not in servers], servers):
        for late in supervisor.stop(names, on_wait, timeout):
            if record := registry.running(lab.state).get(late):
                faults.kill(record, supervisor)
                killed.append(late)
    supervisor.shut_down()
    logger.info("stopped the lab in %s", lab.state.home)
    return killed


def wait_for(lab: Lab, supervisor: Supervisor, look: Callable[[], Status], names: Sequence[str], on_wait: Callable[[str], None]) -> None:
    """Do what `Cluster.wait_for` says."""

    def probe() -> str | None:
        late = [process for process in look().processes if process.name in names and not process.ready]
        states = supervisor.states()
        if failed := [process.name for process in late if states.get(process.name) == "FATAL"]:
            log = lab.state.process_log(failed[0])
            raise NotReadyError(f"{failed[0]} cannot start; see the end of its log, {log}.", path=log, process=failed[0])
        return judgement.lacking(late) or None

    wait_until(probe, lab.settings.start_timeout, "the cluster", interval=0.5, on_wait=on_wait)


def require(lab: Lab, supervisor: Supervisor) -> None:
    """Do nothing when the lab runs in the background.

    Raises:
        ModeError: it runs in the foreground.
        NotRunningError: it does not run.

    """
    if supervisor.running:
        return
    if registry.running(lab.state):
        raise ModeError(
            f"the lab in {lab.state.home} runs in the foreground, under honcho, which cannot do this; press Ctrl-C there and run `{typed()} up -d`.",
            path=lab.state.home,
        )
    raise NotRunningError(
        f"the lab in {lab.state.home} does not run in the background; start it with `{typed()} up -d`.", path=lab.state.home
    )


def require_known(lab: Lab, supervisor: Supervisor, names: Sequence[str]) -> None:
    """Do nothing when the lab in the background has processes of these names.

    Raises:
        LabError: it does not run there.
        UnknownProcessError: it has not.

    """
    require(lab, supervisor)
    known = supervisor.processes
    for name in names:
        if name not in known:
            raise UnknownProcessError(
                f"there is no process {name!r} in the lab in {lab.state.home}; there is: {', '.join(known)}.", process=name
            )
