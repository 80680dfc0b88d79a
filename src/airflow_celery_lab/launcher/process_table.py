"""The process table, as far as the lab needs it: who descends from whom."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Process(NamedTuple):
    """One row of the process table."""

    pid: int
    parent: int
    session: int
    zombie: bool


def table() -> list[Process]:
    """Return all processes that this user may see."""
    return list(_from_proc() if sys.platform == "linux" else _from_ps())


def descendants(roots: Collection[int], rows: Iterable[Process], session: int | None = None) -> set[int]:
    """Return the pids below `roots`, and those of `session` with all below them; never one of `roots` itself.

    The session finds orphans, which no longer have a root above them.
    """
    children: dict[int, list[int]] = {}
    pending = list(roots)
    for row in rows:
        children.setdefault(row.parent, []).append(row.pid)
        if session is not None and row.session == session:
            pending.append(row.pid)
    found: set[int] = set()
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending.extend(children.get(pid, ()))
    return found.difference(roots)


def parent_of(pid: int) -> int | None:
    """Return the parent of `pid`, None when there is no such process."""
    if sys.platform == "linux":
        row = _read_stat(str(pid))
        return row.parent if row else None
    else:  # noqa: RET505  # mypy passes over a branch of another platform, but not over what follows one.
        return _parent_from_ps(pid)


def _parent_from_ps(pid: int) -> int | None:
    import subprocess

    output = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return int(output) if output.strip() else None


def _from_proc() -> Iterable[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (row := _read_stat(entry)):
            yield row


def _read_stat(pid: str) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command's name stands in brackets and may hold anything: count from the last one.
            state, parent, _group, session = file.read().rpartition(b")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return Process(int(pid), int(parent), int(session), state == b"Z")


def _from_ps() -> Iterable[Process]:
    import subprocess

    # macOS prints addresses for `sess`, so the session is asked for by getsid.
    output = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    for line in output.splitlines():
        pid, parent, state = line.split(None, 2)
        try:
            session = os.getsid(int(pid))
        except OSError:
            session = -1
        yield Process(int(pid), int(parent), session, state.startswith("Z"))
