"""Runs one program and answers for its whole process tree.

Two processes of the lab stand before each program:

    supervisor ── guard ── reaper ── program ── its descendants
                           (each in a session of its own)

The guard turns the supervisor's stop signal into the one that the program wants, and watches the
supervisor, which may be killed itself. The reaper passes on how the program has ended; then the guard
kills whatever descends from it. Should the guard be killed, the reaper notices at once, by the end
of a pipe, and does the same. It stands between them because orphans, which a program's daemons are
from the start, go to the nearest ancestor that adopts: each of the two must be one.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from celery_lab import processes

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

#: Seconds that the reaper leaves a program to stop properly after its guard was killed; Postgres needs less.
REAPER_GRACE = 1.0
#: Seconds between two looks at what cannot wake the guard up.
POLL = 0.05
#: `prctl(2)`: orphans below this process become its children instead of init's.
PR_SET_CHILD_SUBREAPER = 36


class Stop(NamedTuple):
    """How to end a program."""

    signal: signal.Signals
    grace: Callable[[bool], float]  #: seconds between the signal and SIGKILL, given whether the supervisor died
    blocked: Callable[[bool], bool]  #: must the signal wait for others? Given the same
    patience: float  #: seconds after which it waits no longer


class Listener(NamedTuple):
    """Whom the guard tells how its program gets on."""

    waiting: Callable[[str], None]  #: given what for
    running: Callable[[int], None]  #: given the program's pid
    stopping: Callable[[int], None]


def run(program: Callable[[Callable[[str], None]], None], stop: Stop, watched: Iterable[int], listener: Listener) -> int:
    """Run `program` in a child, and return its exit status; 128 + N when signal N ended it.

    `program` is given a function to say what it waits for, and replaces the child by exec in the end.
    `watched` are the pids whose end is a request to stop.
    """
    become_subreaper()
    wakeup, asleep = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(asleep, False)
    requests: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: requests.append(received))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(asleep, warn_on_full_buffer=False)
    reaper, pid, reports, lifeline = _fork_reaper(program, stop.signal)
    watches = [watch for watch in map(_watch, watched) if watch is not None]
    try:
        return _Guard(reaper, pid, reports, stop, watches, wakeup, requests, listener).loop()
    finally:
        os.close(lifeline)


class _Guard:
    def __init__(
        self,
        reaper: int,
        pid: int,
        reports: int,
        stop: Stop,
        watches: list[Any],
        wakeup: int,
        requests: list[int],
        listener: Listener,
    ) -> None:
        self.reaper = reaper
        self.pid = pid
        self.reports: int | None = reports
        self.stop = stop
        self.watches = watches
        self.wakeup = wakeup
        self.requests = requests
        self.listener = listener
        self.supervisor_died = False
        self.stopping_since: float | None = None
        self.signalled_at: float | None = None

    def loop(self) -> int:
        while (status := _reap(self.reaper)) is None:
            self._advance(time.monotonic())
            timeout = None if self.stopping_since is None else POLL
            reports = [] if self.reports is None else [self.reports]
            ready, _, _ = select.select([self.wakeup, *reports, *self.watches], [], [], timeout)
            if self.reports in ready:
                self._listen(reports[0])
            if self.wakeup in ready:
                with suppress(BlockingIOError):
                    os.read(self.wakeup, 512)
            if any(watch in ready for watch in self.watches):
                self.supervisor_died = True
                self.watches = []
        kill_tree(os.getpid(), self.pid, spare=self.reaper)
        return status

    def _resume(self) -> None:
        """Let what was paused go on, so that it can end."""
        for pid in processes.descendants(os.getpid(), processes.table(), self.pid):
            _signal(pid, signal.SIGCONT)

    def _listen(self, reports: int) -> None:
        """Pass on what the child says; its exec closes the pipe."""
        text = os.read(reports, 4096).decode(errors="replace")
        if text:
            self.listener.waiting(text.splitlines()[-1])
        else:
            os.close(reports)
            self.reports = None
            if self.stopping_since is None:
                self.listener.running(self.pid)

    def _advance(self, now: float) -> None:
        if self.stopping_since is None:
            if not self.requests and not self.supervisor_died:
                return
            self.stopping_since = now
            self.listener.stopping(self.pid)
        if self.signalled_at is None:
            if not self.stop.blocked(self.supervisor_died) or now - self.stopping_since > self.stop.patience:
                self.signalled_at = now
                _signal(self.pid, self.stop.signal)
                self._resume()
        elif now - self.signalled_at > self.stop.grace(self.supervisor_died):
            kill_tree(os.getpid(), self.pid, spare=self.reaper)


def become_subreaper() -> None:
    """On Linux, adopt all orphans below this process; elsewhere the session has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_tree(root: int, session: int, spare: int = 0) -> None:
    """Kill all that descends from `root` or belongs to `session`, except `root` and `spare`.

    Repeats until nothing is left: what forks while it is looked at is found the next time.
    """
    # A process in uninterruptible sleep cannot be killed: give up on it rather than hang.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rows = [row for row in processes.table() if not row.zombie]
        victims = processes.descendants(root, rows, session) - {spare, os.getpid()}
        if not victims.intersection(row.pid for row in rows):
            return
        for victim in victims:
            _signal(victim, signal.SIGKILL)
        _collect_orphans({session, spare})
        time.sleep(0.005)


def _fork(program: Callable[[Callable[[str], None]], None], reporting: int, close: Iterable[int]) -> int:
    """Start the program, which reports on the pipe `reporting`, and return its pid."""
    # A stop signal that comes before the child has let go of the guard's handlers would be lost in them.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    try:
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


def _fork_reaper(program: Callable[[Callable[[str], None]], None], stop_signal: signal.Signals) -> tuple[int, int, int, int]:
    """Start the reaper, which starts the program.

    Return its pid and the program's, the end of the pipe on which the program reports, and of the lifeline.
    """
    reading, writing = os.pipe()
    births, birth = os.pipe()
    reports, reporting = os.pipe()
    reaper = os.fork()
    if reaper:
        os.close(reading)
        os.close(birth)
        os.close(reporting)
        pid = int(os.read(births, 16))
        os.close(births)
        return reaper, pid, reports, writing
    os.setsid()
    become_subreaper()
    for inherited in (writing, births, reports):
        os.close(inherited)
    wakeup, asleep = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(asleep, False)
    signal.set_wakeup_fd(asleep, warn_on_full_buffer=False)
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


def _watch_over(pid: int, lifeline: int, wakeup: int, stop_signal: signal.Signals) -> NoReturn:
    """Pass on the status of `pid`; when the guard is killed first, end it and all that descends from it."""
    deadline: float | None = None
    while (status := _reap(pid)) is None:
        if deadline is None:
            ready, _, _ = select.select([lifeline, wakeup], [], [])
            if lifeline in ready:
                deadline = time.monotonic() + REAPER_GRACE
                _signal(pid, stop_signal)
        else:
            ready, _, _ = select.select([wakeup], [], [], POLL)
            if time.monotonic() > deadline:
                break
        if wakeup in ready:
            with suppress(BlockingIOError):
                os.read(wakeup, 512)
    if deadline is not None or select.select([lifeline], [], [], 0)[0]:
        kill_tree(os.getpid(), pid)
        _signal(pid, signal.SIGKILL)
    os._exit(0 if status is None else status)


def _reap(pid: int) -> int | None:
    """Collect ended children; return the status of `pid` once it has ended."""
    result = None
    with suppress(ChildProcessError):
        while True:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                code = os.waitstatus_to_exitcode(status)
                result = code if code >= 0 else 128 - code
    return result


def _collect_orphans(keep: set[int]) -> None:
    """Collect ended children other than `keep`, whose status is still wanted."""
    for row in processes.table():
        if row.zombie and row.parent == os.getpid() and row.pid not in keep:
            with suppress(ChildProcessError):
                os.waitpid(row.pid, os.WNOHANG)


def _watch(pid: int) -> Any:
    """Return something that select finds readable when `pid` ends, None when it has ended."""
    try:
        if sys.platform == "linux":
            return os.pidfd_open(pid)
        else:  # noqa: RET505  # see processes.parent_of
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


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
