"""The autoscaler: looks at the lab again and again, until it is stopped.

A process of its own for as long as a lab is used, so it is without the command line's imports; Celery, which it asks
workers through, it imports when it drains the first one.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping, Sequence

from airflow_celery_lab.autoscale.crew import Crew, Say, Scene
from airflow_celery_lab.autoscale.load import Loads
from airflow_celery_lab.cluster.autoscaled import Autoscaled, Claim
from airflow_celery_lab.cluster.changing import changing
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import demand, names, procfile, ranges, settings
from airflow_celery_lab.configuration.ranges import Range
from airflow_celery_lab.errors import LabError, ModeError, NotReadyError, NotRunningError
from airflow_celery_lab.launcher import reaper, registry
from airflow_celery_lab.supervision import wanted

#: Seconds between two looks, each of which takes some hundredths of one.
INTERVAL = 2.0


def main(words: Sequence[str], environ: Mapping[str, str], say: Say) -> int:
    """Scale the lines that `words` name until a signal comes; return 128 and its number.

    Raises:
        LabError: a range makes no sense, or the lab cannot be scaled now.

    """
    allowed = ranges.parse(words)
    stop = _Stop()
    if "HONCHO_PROCESS_NAME" in environ:  # To end would end the lab.
        say(
            f"lab: the lab runs in the foreground, where no worker can come or go: nothing is autoscaled; `{typed()} up -d` starts one that is."
        )
        stop.wait(None)
    else:
        _Autoscaler(allowed, environ, say).run(stop)
        if names.process_name(environ) is None:
            say(f"lab: stopped; the workers stay as they are, until `{typed()} apply`")
    return 128 + stop.number


class _Stop:
    """The signal that ends the autoscaler."""

    def __init__(self) -> None:
        self.number = 0
        self._wakeup, _ = reaper.wakeup_pipe()
        for number in reaper.STOP_SIGNALS:
            signal.signal(number, self._note)

    def wait(self, seconds: float | None) -> bool:
        """Wait for it, at most so long; return whether it has come."""
        if not self.number:
            select.select([self._wakeup], [], [], seconds)
            reaper.drain(self._wakeup)
        return bool(self.number)

    def _note(self, number: int, _frame: object) -> None:
        self.number = number


class _Autoscaler:
    def __init__(self, allowed: Sequence[Range], environ: Mapping[str, str], say: Say) -> None:
        self._allowed = allowed
        self._environ = environ
        self._say = say
        self._shift: _Shift | None = None
        self._trouble = ""

    def run(self, stop: _Stop) -> None:
        """Look until the signal comes.

        Raises:
            LabError: the lab cannot be scaled at the beginning; later, it is waited for.

        """
        self._shift = _Shift(self._allowed, self._environ, self._say)
        try:
            while not stop.wait(INTERVAL):
                self._look()
        finally:
            self._end()

    def _end(self) -> None:
        if self._shift:
            self._shift.end()
        self._shift = None

    def _look(self) -> None:
        try:
            if self._shift is None:
                self._shift = _Shift(self._allowed, self._environ, self._say)
            self._shift.look()
        except LabError as error:
            if isinstance(error, (NotRunningError, ModeError)):  # The next life may have other ports and processes.
                self._end()
            elif self._shift:
                self._shift.interrupt(str(error))
            if str(error) != self._trouble:
                self._say(f"lab: waiting: {error}")
            self._trouble = str(error)
        else:
            if self._trouble:
                self._say("lab: goes on")
            self._trouble = ""


class _Shift:
    """The work in one life of the lab."""

    def __init__(self, allowed: Sequence[Range], environ: Mapping[str, str], say: Say) -> None:
        """Take the lines, and prepare the lab for as many workers as there may be.

        Raises:
            LabError: the lab does not run in the background, or cannot have so many workers, or another autoscaler has a line.

        """
        state = settings.load(environ).state
        if not state.secrets.exists():  # Nor is any made, as `clean` may have removed them.
            raise NotRunningError(f"there is no lab in {state.home} yet; start it with `{typed()} up -d`.", path=state.home)
        self._cluster = Cluster.open(environ, writing=False)
        self._cluster.require_main()
        self._loads = Loads(self._cluster.lab)
        self._crews: list[Crew] = []
        try:
            self._cluster.require_background()
            lines, processes = self._cluster.lines(), self._cluster.supervisor.processes
            procfile.require_workers(allowed, lines)
            own = names.process_name(environ) or ""
            for one in allowed:
                count = wanted.count(processes, lines, one.line)
                note = Autoscaled(one.line, one.least, one.most, count, count, "it has just started", "", own, os.getpid())
                self._crews.append(Crew(self._cluster, environ, Claim(self._cluster.lab.state, note), say))
            self._prepare(say)
        except LabError:
            self.end()
            raise
        for crew in self._crews:
            say(f"{crew.line}: {crew.claim.note.actual} of {crew.claim.note.range} workers")

    def look(self) -> None:
        """Look once, and do what is to be done.

        Raises:
            LabError: the lab has ended, its Postgres does not answer, an experiment is at work, or the Procfile cannot be used.

        """
        self._cluster.require_background()
        if registry.is_held(self._cluster.lab.state.experiment_lock):
            raise NotReadyError("an experiment is at work, which counts on the workers that there are.")
        loads = self._loads.ask()
        with changing(self._cluster.lab.state, 0) as held:
            if held:  # Else a command changes what runs, and the next look finds what it has made of it.
                supervisor = self._cluster.supervisor
                for crew in self._crews:
                    crew.look(Scene(supervisor.processes, supervisor.states(), self._cluster.lines(), loads))

    def interrupt(self, reason: str) -> None:
        """Take in that the load cannot be known now."""
        for crew in self._crews:
            crew.interrupt(reason)

    def end(self) -> None:
        """Give everything back."""
        for crew in self._crews:
            crew.let_go()
        self._loads.close()
        self._cluster.close()

    def _prepare(self, say: Say) -> None:
        """Let the scheduler run as many tasks at a time as there may be slots.

        Raises:
            ProcfileError: Postgres or Redis cannot serve so many workers.

        """
        cluster = self._cluster
        with cluster.changing():
            processes = cluster.supervisor.processes
            cluster.require_given(processes)
            reserved = cluster.demand(cluster.widest(processes))
            demand.write(cluster.lab.state, reserved)
            if late := cluster.outgrown(processes):
                say(f"lab: {', '.join(late)} starts again, to run {reserved.slots} tasks at a time")
                cluster.supervisor.stop(late)
                cluster.supervisor.launch(late)
