"""Starting, changing and ending the lab in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from airflow_celery_lab.cluster import autoscaled, faults, journal, limits, link_status, preflight
from airflow_celery_lab.cluster.changing import changing
from airflow_celery_lab.cluster.readiness import OnWait, Readiness, quietly
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import airflow_settings, demand, environment, links, procfile
from airflow_celery_lab.configuration.demand import Demand
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.errors import ModeError, NotReadyError, NotRunningError, UnknownProcessError
from airflow_celery_lab.launcher import temporary
from airflow_celery_lab.servers import applied_settings
from airflow_celery_lab.servers.applied_settings import Applied
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.supervision.wanted import Plan

#: States of supervisord in which a process runs no more, and is not tried again.
ENDED = {"STOPPED", "EXITED", "FATAL"}
#: Seconds for which `down` lets another command finish its change.
SHORTLY = 5.0
logger = logging.getLogger(__name__)


class Lifecycle(Readiness):
    """Starts, changes and ends a lab."""

    def up(self, counts: Mapping[str, int] | None = None, on_wait: OnWait = quietly) -> float:
        """Start the lab in the background, or what of it does not run, and return the seconds until all was ready.

        `counts` has how often a line of the Procfile runs, by its name, where that is not once. A lab that runs
        already keeps its processes: `apply` makes them those of the Procfile.

        Raises:
            LabError: something is in the way, or did not become ready.

        """
        begin = time.monotonic()
        self.require_countable(counts or {})
        target = procfile.instances(self.lines(), counts)
        if states := self.supervisor.states():
            self.supervisor.launch(name for name, state in states.items() if state in ENDED)
        else:
            preflight.check(self.settings, procfile.services_of(target), self._environ)
            logger.info("starting %d processes in %s", len(target), self.settings.home)
            demand.write(self.lab.state, self.demand(self.widest(target)))
            links.forget(self.lab.state)  # Of a life that has not ended by `down`.
            journal.note(self.lab.state, "up")
            self.supervisor.start(target, self._environ)
        self.wait_for(list(self.supervisor.processes), on_wait)
        return time.monotonic() - begin

    def require_countable(self, counts: Mapping[str, int]) -> None:
        """Do nothing when no line of `counts` has an autoscaler, nor gets one when the lab starts.

        Raises:
            ProcfileError: one has.

        """
        autoscaled.refuse(counts, autoscaled.read(self.lab.state), self.lines())

    def differs(self, counts: Mapping[str, int] | None = None) -> Plan:
        """Return what `apply` would do, with so many instances of lines as `counts` says."""
        return self.plan(self._beside(procfile.instances(self.lines(), {**self.kept(), **(counts or {})})))

    def target(self) -> Processes:
        """Return the processes of the Procfile, an autoscaled line as often as its autoscaler runs it, and what commands have started beside them.

        Raises:
            ProcfileError: the Procfile cannot be used.

        """
        return self._beside(procfile.instances(self.lines(), self.kept()))

    def _beside(self, target: Processes) -> Processes:
        return wanted.beside(self.supervisor.processes, target) if self.supervisor.running else target

    def kept(self) -> dict[str, int]:
        """Return how often each line runs whose count an autoscaler decides, whatever is applied."""
        notes = autoscaled.read(self.lab.state)
        return autoscaled.kept(notes, self.supervisor.processes, self.lines()) if notes else {}

    def widest(self, target: Processes) -> Processes:
        """Return `target` with each autoscaled line as often as it may ever run."""
        ranges = [service.ranges for service in procfile.services_of(target).values() if service.ranges]
        notes = [note for note in autoscaled.read(self.lab.state) if not note.process]
        return autoscaled.widest(target, self.lines(), notes, ranges) if ranges or notes else target

    def plan(self, target: Processes) -> Plan:
        """Return what makes `target` the running processes."""
        return wanted.plan(self.supervisor.processes, target, self._stale(target))

    def demand(self, target: Processes) -> Demand:
        """Return what `target` asks of the servers and of the machine."""
        return demand.of(procfile.services_of(target).values(), environment.sizes(self.lab, self._environ))

    def shortage(self, target: Processes, running: Processes | None = None) -> str | None:
        """Return a sentence when this machine may not have the memory for `target` beside what runs, or `running` of it."""
        if running is None and self.supervisor.running:
            running = self.supervisor.processes
        return limits.shortage(self.demand(target), limits.available(), None if running is None else self.demand(running))

    def require_given(self, target: Processes) -> None:
        """Do nothing when the running servers can give what `target` asks for.

        Raises:
            ProcfileError: they cannot.

        """
        limits.of_running_servers(self.lab, self.demand(self.widest(target)))

    def outgrown(self, target: Processes) -> list[str]:
        """Return the names of the schedulers that run fewer tasks at a time than `target` has slots."""
        slots = self.demand(self.widest(target)).slots
        return wanted.outgrown(self.records, slots, environment.parallelism_is_set(self.lab, self._environ))

    def _stale(self, target: Processes) -> list[str]:
        """Return the names of the processes that have to start again for what changed elsewhere than in their lines."""
        return [
            *wanted.stale(self.records, self.settings),
            *self.outgrown(target),
            *link_status.astray(self.records, links.read(self.lab.state)),
        ]

    def apply(self, target: Processes | None = None, on_wait: OnWait = quietly) -> Plan:
        """Make the processes of the Procfile, or `target`, the running ones; touch only what differs; wait for what is new.

        What was started with another `.env` differs too, and a scheduler that could not fill all slots.

        Raises:
            LabError: the lab does not run in the background, the servers cannot give what `target` asks for, or what is
                new did not become ready.

        """
        self.require_background()
        with self.changing(on_wait):
            plan = self.change(self.target() if target is None else target, on_wait)
        self.wait_for([*plan.added, *plan.changed], on_wait)
        return plan

    @contextmanager
    def changing(self, on_wait: OnWait = quietly) -> Iterator[None]:
        """Keep other commands and autoscalers from changing what runs within the block.

        Raises:
            NotReadyError: another command does not come to an end.

        """
        with changing(self.lab.state, 2 * self.settings.stop_timeout + self.settings.start_timeout, on_wait) as held:
            if not held:
                raise NotReadyError("another command still changes the lab's processes; wait for its end, or end it.")
            yield

    def change(self, target: Processes, on_wait: OnWait = quietly) -> Plan:
        """Do what `apply` does within `changing`, and do not wait for what is new.

        Raises:
            ProcfileError: the servers cannot give what `target` asks for.

        """
        self.require_given(target)
        stale = self._stale(target)
        demand.write(self.lab.state, self.demand(self.widest(target)))
        for what, names in vars(self.plan(target)).items():
            if names:
                journal.note(self.lab.state, what, names)
        return self.supervisor.apply(target, stale, on_wait)

    def apply_settings(self) -> Applied:
        """Write all connections, variables and pools of the project's file, also those that were changed in Airflow.

        Raises:
            ModeError: the lab runs in the foreground.
            NotRunningError: it does not run in the background, or its database does not answer.

        """
        self.require_background()
        if not airflow_settings.of(self.settings).entries:
            return Applied()
        target = applied_settings.of_lab(self.lab)
        if target is None:
            raise NotRunningError(f"Postgres does not answer; see `{typed()} status`.", path=self.settings.home)
        return applied_settings.apply(self.lab, target, self.environment(), everything=True)

    def scaled(self, counts: Mapping[str, int]) -> Processes:
        """Return what runs, with so many instances of the Procfile's lines as `counts` says.

        Raises:
            LabError: the lab does not run in the background, the Procfile has no such line, or an autoscaler counts it.

        """
        self.require_background()
        autoscaled.refuse(counts, autoscaled.read(self.lab.state))
        return wanted.scaled(self.supervisor.processes, self.lines(), counts)

    def scale(self, counts: Mapping[str, int], on_wait: OnWait = quietly) -> Plan:
        """Run lines of the Procfile so often as `counts` says, until `apply` or `down`; wait for what is new.

        Raises:
            LabError: as `scaled` and `apply`.

        """
        with self.changing(on_wait):
            plan = self.change(self.scaled(counts), on_wait)
        self.wait_for([*plan.added, *plan.changed], on_wait)
        return plan

    def start(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Start processes of the background lab, and wait until they are ready.

        Raises:
            LabError: the lab does not run in the background, has no such process, or one did not become ready.

        """
        self._require_known(names)
        journal.note(self.lab.state, "start", names)
        self.supervisor.launch(names)
        self.wait_for(names, on_wait)

    def stop(self, names: Sequence[str], on_wait: OnWait = quietly) -> None:
        """Stop processes of the background lab; a worker finishes its tasks first.

        Raises:
            LabError: the lab does not run in the background, or has no such process.

        """
        self._require_known(names)
        journal.note(self.lab.state, "stop", names)
        for stage in wanted.stop_order(self.supervisor.processes):
            self.supervisor.stop([name for name in stage if name in names], on_wait)

    def down(self, timeout: float | None = None, on_wait: OnWait = quietly) -> list[str] | None:
        """End the background lab in its stages: workers first, Postgres and Redis last; what takes longer than `timeout` seconds by force.

        Return the names of what had to be killed; None when the lab was not running.

        Raises:
            ModeError: it runs in the foreground.

        """
        if not self.supervisor.running:
            if self.records:
                raise ModeError(f"the lab in {self.settings.home} runs in the foreground; press Ctrl-C there.", path=self.settings.home)
            return None
        journal.note(self.lab.state, "down")
        links.clear(self.lab.state)  # Else no worker could finish its tasks.
        killed = []
        with changing(self.lab.state, SHORTLY, on_wait):  # An autoscaler would start workers meanwhile; a command of the user's may end.
            processes = self.supervisor.processes
            for names in wanted.stop_order(processes):
                for late in self.supervisor.stop(names, on_wait, timeout):
                    if record := self.records.get(late):
                        faults.kill(record, self.supervisor)
                        killed.append(late)
            self.supervisor.shut_down()
        demand.forget(self.lab.state)
        links.forget(self.lab.state)
        for name in processes:  # Of those whose launchers were killed.
            temporary.remove(temporary.folder(self.lab.state, name))
        logger.info("stopped the lab in %s", self.settings.home)
        return killed

    def _require_known(self, names: Sequence[str]) -> None:
        self.require_background()
        known = self.supervisor.processes
        for name in names:
            if name not in known:
                raise UnknownProcessError(
                    f"there is no process {name!r} in the lab in {self.settings.home}; there is: {', '.join(known)}.", process=name
                )
