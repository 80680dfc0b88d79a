"""The process between the guard and the program: it starts the program, and ends the tree when the guard is killed."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, NoReturn

from airflow_celery_lab.launcher import tree

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Seconds that the reaper leaves a program to stop properly after its guard was killed; Postgres needs less.
GRACE = 1.0
#: Seconds between two looks while a program has its grace.
POLL = 0.05

#: Replaces its process by the program in the end; is given a function that says what it waits for.
Program = Callable[[Callable[[str], None]], None]


class Reaper(NamedTuple):
    """What the guard knows of its reaper."""

    pid: int
    program: int  #: its pid
    reports: int  #: end of the pipe on which the program says what it waits for, closed by its exec
    statuses: int  #: end of the pipe on which the reaper says how the program has ended
    lifeline: int  #: end of the pipe that tells the reaper, by closing, that the guard has ended


class Far(NamedTuple):
    """The reaper's ends of these pipes."""

    births: int
    reports: int
    statuses: int
    lifeline: int


class Pipes(NamedTuple):
    """The pipes between a guard and its reaper; the guard's ends but for `far`."""

    births: int
    reports: int
    statuses: int
    lifeline: int
    far: Far

    def born(self) -> Reaper | None:
        """Close the far ends, and wait for what the reaper says first: its pid, and the program's. None when it died before."""
        for end in self.far:
            os.close(end)
        pids = os.read(self.births, 64).split()
        os.close(self.births)
        return Reaper(int(pids[0]), int(pids[1]), self.reports, self.statuses, self.lifeline) if pids else None

    def close_near(self) -> None:
        """Close the guard's ends, in a process that is none."""
        for end in (self.births, self.reports, self.statuses, self.lifeline):
            os.close(end)

    def close(self) -> None:
        """Close all of them."""
        self.close_near()
        for end in self.far:
            os.close(end)


def pipes() -> Pipes:
    """Return new pipes for one reaper."""
    births, birth = os.pipe()
    reports, reporting = os.pipe()
    statuses, status = os.pipe()
    reading, lifeline = os.pipe()
    return Pipes(births, reports, statuses, lifeline, Far(birth, reporting, status, reading))


def start(program: Program, stop_signal: signal.Signals, *, alone: bool = False) -> Reaper:
    """Start the reaper, which starts the program; `stop_signal` is the one that ends the program properly.

    What a program has forked that answers for itself `alone` is left as it is.
    """
    between = pipes()
    if os.fork() == 0:
        between.close_near()
        _run(program, divide(stop_signal, between.far, alone=alone))
    started = between.born()
    assert started  # Nobody knows its pid yet.
    return started


def divide(stop_signal: signal.Signals, ends: Far, *, alone: bool = False) -> int:
    """Turn this process, which was forked for that, into a reaper and its program: only the program's process returns.

    What is returned is the pipe on which the program reports.
    """
    os.setsid()
    if not alone:
        tree.become_subreaper()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wakeup, asleep = wakeup_pipe()
    if pid := _fork(close=(ends.lifeline, ends.births, ends.statuses, wakeup, asleep)):
        _introduce(pid, ends)
        _watch_over(pid, ends, wakeup, stop_signal, alone=alone)
    return ends.reports


def _introduce(pid: int, ends: Far) -> None:
    """Tell the guard who is there, and let go of what only the program uses."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # Wakes it.
    os.write(ends.births, f"{os.getpid()} {pid}".encode())
    os.close(ends.births)
    os.close(ends.reports)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)


def wakeup_pipe() -> tuple[int, int]:
    """Return a pipe whose first end becomes readable when this process gets a signal."""
    wakeup, asleep = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(asleep, False)
    signal.set_wakeup_fd(asleep, warn_on_full_buffer=False)
    return wakeup, asleep


def drain(wakeup: int) -> None:
    """Empty a wakeup pipe."""
    with suppress(BlockingIOError):
        os.read(wakeup, 512)


def _watch_over(pid: int, ends: Far, wakeup: int, stop_signal: signal.Signals, *, alone: bool) -> NoReturn:
    """Pass on the status of `pid`; when the guard is killed first, end it. Then end all that descends from it."""
    deadline: float | None = None
    while (status := tree.collect(pid)) is None:
        if deadline is None:
            ready, _, _ = select.select([ends.lifeline, wakeup], [], [])
            if ends.lifeline in ready:
                deadline = time.monotonic() + GRACE
                tree.send(pid, stop_signal)
        else:
            ready, _, _ = select.select([wakeup], [], [], POLL)
            if time.monotonic() > deadline:
                break
        if wakeup in ready:
            drain(wakeup)
    if not alone:
        tree.kill({os.getpid()}, pid)
    if status is None:
        tree.send(pid, signal.SIGKILL)
    else:
        with suppress(OSError):  # The guard may have been killed.
            os.write(ends.statuses, str(status).encode())
    os._exit(status or 0)


def _fork(close: Iterable[int]) -> int:
    """Fork the program's process, a session of its own with nothing of its reaper's, and return its pid; there 0."""
    # A stop signal that comes before the child has let go of the guard's handlers would be lost in them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    own = os.getpid()
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    tree.die_with(own)
    os.setsid()
    signal.set_wakeup_fd(-1)
    for inherited in close:
        os.close(inherited)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    return 0


def _run(program: Program, reports: int) -> NoReturn:
    """Run the program in this process, and end with its status."""
    try:
        program(lambda text: report(reports, text))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # a child must never return into its parent's code
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)


def report(pipe: int, text: str) -> None:
    """Tell the guard what the program waits for."""
    with suppress(OSError):
        os.write(pipe, f"{text}\n".encode()[:4096])
