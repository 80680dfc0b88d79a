"""What a lab is doing: its status, the wait for its readiness, and what its processes print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from airflow_celery_lab.cluster import evidence, flower, judgement
from airflow_celery_lab.cluster.connections import Connections
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.errors import NotReadyError, NotRunningError, UnknownProcessError
from airflow_celery_lab.wait import wait_until

#: Is told, again and again, what is waited for.
OnWait = Callable[[str], None]
#: Seconds between two looks at everything, each of which costs some hundredths of one.
INTERVAL = 0.5


def quietly(_reason: str) -> None:
    """Tell nobody what is waited for."""


class Readiness(Connections):
    """Looks at a lab, and waits for it."""

    def status(self, expected: Mapping[str, Service] | None = None, *, details: bool = True, memory: bool = True) -> Status:
        """Look at everything once, and judge. `expected` is by default what runs, or what the Procfile names.

        Without `details` the memory and the DAG files that cannot be read are left out, which cost most; without `memory` that alone.
        """
        supervised = self.supervisor.states()
        processes: Processes = self.supervisor.processes if supervised else {}
        if expected is None:
            expected = procfile.services_of(processes if supervised else procfile.instances(self.lines()))
        look = evidence.Look(self.lab, self._environ, lambda: self.api, lambda: self.broker, self.supervisor)
        return judgement.judge(expected, look.gather(supervised, processes, details=details, memory=details and memory))

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

        seconds = wait_until(
            probe,
            timeout or self.settings.start_timeout,
            "the cluster",
            advice=f"see `{typed()} status` and the log of what is missing",
            interval=INTERVAL,
            on_wait=on_wait,
        )
        self._tell_flower()
        return seconds

    def wait_for(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Wait until processes of the background lab are ready.

        Raises:
            NotReadyError: one of them cannot start, or it took longer than LAB_START_TIMEOUT.

        """

        def probe() -> str | None:
            late = [process for process in self.status(details=False).processes if process.name in names and not process.ready]
            states = self.supervisor.states()
            if failed := [process.name for process in late if states.get(process.name) == "FATAL"]:
                log = self.lab.state.process_log(failed[0])
                raise NotReadyError(f"{failed[0]} cannot start; see the end of its log, {log}.", path=log, process=failed[0])
            return judgement.lacking(late) or None

        wait_until(probe, self.settings.start_timeout, "the cluster", interval=INTERVAL, on_wait=on_wait)
        self._tell_flower()

    def _tell_flower(self) -> None:
        if evidence.runs("flower", self.records):
            flower.refresh(self.lab)

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
