"""Runs one program and answers for its whole process tree.

Two processes of the lab stand before each program:

    supervisor ── guard ── reaper ── program ── its descendants
                           (each in a session of its own)

The guard turns the supervisor's stop signal into the one that the program wants, and watches the
supervisor, which may be killed itself. The reaper passes on how the program has ended; then the guard
kills all that descends from it. If the guard itself is killed, the reaper notices at once, by the end
of a pipe, and does the same. It stands between them because orphans, which a program's daemons are
from the start, go to the nearest ancestor that adopts: each of the two must be one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from airflow_celery_lab.launcher import process_table, reaper, tree
from airflow_celery_lab.launcher.reaper import POLL, STOP_SIGNALS, Reaper

#: Seconds that such a program has for its own end.
ALONE = 1.5


class Stop(NamedTuple):
    """How to end a program."""

    signal: signal.Signals
    grace: Callable[[bool], float]  #: seconds between the signal and SIGKILL, given whether the supervisor died
    blocked: Callable[[bool], bool]  #: must the signal wait for others? Given the same
    patience: float  #: seconds after which it waits no longer
    ends_alone: bool = False  #: has the program nothing more to do, once it is stopped and all below it has ended?
    alone: bool = False  #: does what the program has forked answer for itself, and stay?


class Interrupt(NamedTuple):
    """Whether the supervisor wants the end already, while the program is not yet started."""

    wakeup: int  #: readable after a signal
    requests: Sequence[int]

    def wait(self, seconds: float, *files: int) -> bool:
        """Wait until one of `files` is readable, for so long; return whether the end is wanted."""
        ready, _, _ = select.select([self.wakeup, *files], [], [], seconds)
        if self.wakeup in ready:
            reaper.drain(self.wakeup)
        return bool(self.requests)


#: Starts the reaper, and with it the program; returns None when it was interrupted.
Start = Callable[[Interrupt], Reaper | None]


class Observer(NamedTuple):
    """Is told what the program does."""

    started: Callable[[int], None]  #: given the reaper's pid
    waiting: Callable[[str], None]  #: given what for
    running: Callable[[int], None]  #: given the program's pid
    stopping: Callable[[int], None]


def run(start: Start, stop: Stop, watched: Iterable[int], observer: Observer) -> int:
    """Run the program that `start` starts, and return its exit status; 128 + N when signal N ended it.

    `watched` are the pids whose end is a request to stop.
    """
    if not stop.alone:
        tree.become_subreaper()
    requests: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: requests.append(received))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wakeup, _ = reaper.wakeup_pipe()
    started = start(Interrupt(wakeup, requests))
    if started is None:
        return 128 + signal.SIGTERM
    observer.started(started.pid)
    watches = [watch for watch in map(_watch, watched) if watch is not None]
    try:
        return _Guard(started, stop, watches, wakeup, requests, observer).loop()
    finally:
        os.close(started.lifeline)


class _Guard:
    def __init__(self, started: Reaper, stop: Stop, watches: list[Any], wakeup: int, requests: list[int], observer: Observer) -> None:
        self.reaper = started.pid
        self.pid = started.program
        self.reports: int | None = started.reports
        self.statuses = started.statuses
        self.stop = stop
        self.watches = watches
        self.wakeup = wakeup
        self.requests = requests
        self.observer = observer
        self.supervisor_died = False
        self.stopping_since: float | None = None
        self.signalled_at: float | None = None
        self.alone_since: float | None = None

    def loop(self) -> int:
        while True:
            self._advance(time.monotonic())
            timeout = None if self.stopping_since is None else POLL
            reports = [] if self.reports is None else [self.reports]
            ready, _, _ = select.select([self.wakeup, self.statuses, *reports, *self.watches], [], [], timeout)
            if self.statuses in ready:
                break
            if self.reports in ready:
                self._listen(reports[0])
            if self.wakeup in ready:
                reaper.drain(self.wakeup)
                tree.collect(self.reaper)
            if any(watch in ready for watch in self.watches):
                self.supervisor_died = True
                self.watches = []
        # A reaper that was killed has said nothing.
        status = int(os.read(self.statuses, 16) or 128 + signal.SIGKILL)
        self._kill()
        return status

    def _resume(self) -> None:
        """Let what was paused go on, so that it can end."""
        below = () if self.stop.alone else process_table.descendants(self._roots, process_table.table(), self.pid)
        for pid in {self.pid, *below}:
            tree.send(pid, signal.SIGCONT)

    def _kill(self) -> None:
        if self.stop.alone:
            tree.send(self.pid, signal.SIGKILL)
        else:
            tree.kill(self._roots, self.pid)

    @property
    def _roots(self) -> set[int]:
        # The reaper may be a child of the forkserver's.
        return {os.getpid(), self.reaper}

    def _listen(self, reports: int) -> None:
        """Pass on what the child says; its exec closes the pipe."""
        text = os.read(reports, 4096).decode(errors="replace")
        if text:
            self.observer.waiting(text.splitlines()[-1])
        else:
            os.close(reports)
            self.reports = None
            if self.stopping_since is None:
                self.observer.running(self.pid)

    def _advance(self, now: float) -> None:
        if self.stopping_since is None:
            if not self.requests and not self.supervisor_died:
                return
            self.stopping_since = now
            self.observer.stopping(self.pid)
        if self.signalled_at is None:
            if not self.stop.blocked(self.supervisor_died) or now - self.stopping_since > self.stop.patience:
                self.signalled_at = now
                tree.send(self.pid, self.stop.signal)
                self._resume()
        elif now - self.signalled_at > self.stop.grace(self.supervisor_died) or self._has_ended_alone(now):
            self._kill()

    def _has_ended_alone(self, now: float) -> bool:
        """Return whether a program still waits although there is nothing left that it could wait for."""
        if not self.stop.ends_alone or not tree.is_alone(self.pid):
            self.alone_since = None
            return False
        self.alone_since = self.alone_since or now
        return now - self.alone_since > ALONE


def _watch(pid: int) -> Any:
    """Return something that select finds readable when `pid` ends, None when it has ended."""
    try:
        if sys.platform == "linux":
            return os.pidfd_open(pid)
        else:  # noqa: RET505  # see process_table.parent_of
            return _kqueue_watch(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGTERM)  # It is gone already: stop, the same way.
        return None


def _kqueue_watch(pid: int) -> Any:
    """Do on macOS and the BSDs what pidfd does on Linux."""
    queue = select.kqueue()  # type: ignore[attr-defined, unused-ignore]
    event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)  # type: ignore[attr-defined, unused-ignore]
    queue.control([event], 0)
    return queue
