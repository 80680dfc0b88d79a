"""The process tree below a launcher: adopting its orphans, signalling it, collecting and killing it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from contextlib import suppress

from airflow_celery_lab.launcher import process_table

#: `prctl(2)`: orphans below this process become its children instead of init's; this process gets a signal when its parent ends.
PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 36, 1


def become_subreaper() -> None:
    """On Linux, adopt all orphans below this process; elsewhere the session has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """On Linux, let this process be killed when its parent `parent` is, with which both who answer for it may be gone.

    An exec keeps this, a change of user ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def kill(roots: Collection[int], session: int) -> None:
    """Kill all that descends from `roots` or belongs to `session`, except the roots and this process.

    Repeats until nothing is left: what forks while it is looked at is found the next time.
    """
    spared = {*roots, os.getpid()}
    # A process in uninterruptible sleep cannot be killed: give up on it rather than hang.
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        rows = [row for row in process_table.table() if not row.zombie]
        victims = process_table.descendants(roots, rows, session) - spared
        if not victims.intersection(row.pid for row in rows):
            return
        for victim in victims:
            send(victim, signal.SIGKILL)
        _collect_orphans({session, *roots})
        time.sleep(0.005)


def is_alone(pid: int) -> bool:
    """Return whether nothing below `pid` lives."""
    return not process_table.descendants({pid}, [row for row in process_table.table() if not row.zombie])


def collect(pid: int) -> int | None:
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
    for row in process_table.table():
        if row.zombie and row.parent == os.getpid() and row.pid not in keep:
            with suppress(ChildProcessError):
                os.waitpid(row.pid, os.WNOHANG)


def send(pid: int, number: int) -> None:
    """Send a signal, if the process is there and ours."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
