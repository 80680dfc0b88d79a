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
    lifeline: int  #: end of the pipe that tells the reaper, by closing, that the guard has ended


def start(program: Program, stop_signal: signal.Signals) -> Reaper:
    """Start the reaper, which starts the program; `stop_signal` is the one that ends the program properly."""
    reading, writing = os.pipe()
    births, birth = os.pipe()
    reports, reporting = os.pipe()
    own = os.fork()
    if own:
        os.close(reading)
        os.close(birth)
        os.close(reporting)
        pid = int(os.read(births, 16))
        os.close(births)
        return Reaper(own, pid, reports, writing)
    os.setsid()
    tree.become_subreaper()
    for inherited in (writing, births, reports):
        os.close(inherited)
    wakeup, asleep = wakeup_pipe()
    pid = _fork(program, reporting, close=(reading, birth, wakeup, asleep))
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.write(birth, str(pid).encode())
    os.close(birth)
    os.close(reporting)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    return _watch_over(pid, reading, wakeup, stop_signal)


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


def _watch_over(pid: int, lifeline: int, wakeup: int, stop_signal: signal.Signals) -> NoReturn:
    """Pass on the status of `pid`; when the guard is killed first, end it and all that descends from it."""
    deadline: float | None = None
    while (status := tree.collect(pid)) is None:
        if deadline is None:
            ready, _, _ = select.select([lifeline, wakeup], [], [])
            if lifeline in ready:
                deadline = time.monotonic() + GRACE
                tree.send(pid, stop_signal)
        else:
            ready, _, _ = select.select([wakeup], [], [], POLL)
            if time.monotonic() > deadline:
                break
        if wakeup in ready:
            drain(wakeup)
    if deadline is not None or select.select([lifeline], [], [], 0)[0]:
        tree.kill(os.getpid(), pid)
        tree.send(pid, signal.SIGKILL)
    os._exit(0 if status is None else status)


def _fork(program: Program, reporting: int, close: Iterable[int]) -> int:
    """Start the program, which reports on the pipe `reporting`, and return its pid."""
    # A stop signal that comes before the child has let go of the guard's handlers would be lost in them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    own = os.getpid()
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    try:
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
        program(lambda text: _report(reporting, text))
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001  # a child must never return into its parent's code
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    os._exit(status)


def _report(pipe: int, text: str) -> None:
    with suppress(OSError):
        os.write(pipe, f"{text}\n".encode()[:4096])
