"""Which processes of a lab run, kept below its state folder while they do.

Each process holds a lock on a file of its own for as long as it lives; the kernel lets go of it
when the process dies, however it dies. So a record counts only while its lock is held.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import AlreadyRunningError

#: Readers hold a lock for microseconds while they look; a starting process waits this long (s) for them.
LOCK_PATIENCE = 1.0


class Record(NamedTuple):
    """What a running process says of itself."""

    name: str
    pid: int  #: of the launcher, which the supervisor knows
    main_pid: int  #: of the real program, 0 before it runs
    command: list[str]
    supervisor: str  #: honcho, supervisord or none
    state: str  #: waiting, running or stopping
    reason: str  #: what it waits for, or ""
    since: float  #: when it entered this state, in seconds since the epoch
    queues: Sequence[str] = ()  #: of a worker, Airflow's default one included
    dotenv: int = 0  #: what `.env` said when it was started (Settings.dotenv_print)
    started: float = 0.0  #: when its launcher was, in seconds since the epoch
    parallelism: int = 0  #: of a scheduler: how many tasks it runs at a time; 0 where that is not known
    linked: bool = False  #: a worker that reaches its servers through the lab's links
    reaper: int = 0  #: pid of the program's parent, a child of the launcher's or of the forkserver's; 0 before it runs


class Registration:
    """One process's own entry. Only its owner writes it."""

    def __init__(self, state: State, record: Record) -> None:
        """Take the name.

        Raises:
            AlreadyRunningError: a living process has it.

        """
        state.processes.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = state.record(record.name)
        self._lock = state.lock(record.name).open("a")
        deadline = time.monotonic() + LOCK_PATIENCE
        while not try_lock(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise AlreadyRunningError(
                    f"{record.name} runs already in {state.home}{_owner(self._path)}; stop it first, or set LAB_HOME and LAB_PORT_OFFSET for a second lab.",
                    path=state.home,
                    process=record.name,
                )
            time.sleep(0.01)
        self.record = record
        self._write()
        state.end(record.name).unlink(missing_ok=True)

    def update(self, **changes: object) -> None:
        """Change fields of the record; others read it from now on."""
        self.record = self.record._replace(**changes)  # type: ignore[arg-type]  # typed by Record itself
        self._write()

    def release(self) -> None:
        """Give the name back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._lock.close()

    def _write(self) -> None:
        with suppress(OSError):  # The disk may be full, or the state folder removed under a running process.
            files.write(self._path, json.dumps(self.record._asdict()))


def running(state: State) -> dict[str, Record]:
    """Return the records of all living processes of the lab in `state`, by name."""
    records = {}
    for path in sorted(state.processes.glob("*.json")):
        with suppress(OSError, ValueError, TypeError):
            if is_held(path.with_suffix(".lock")):
                record = Record(**json.loads(path.read_text()))
                records[record.name] = record
    return records


def known(state: State) -> dict[str, bool]:
    """Return the names of all processes that ever ran in the lab, and whether each lives.

    One that found the disk full when it started lives without a record.
    """
    return {path.stem: is_held(path) for path in state.processes.glob("*.lock")}


def note_end(state: State, name: str, status: int) -> None:
    """Write down that a process has ended unasked; forgotten when one of that name runs again."""
    with suppress(OSError):
        files.write(state.end(name), f"{status}\n")


def ends(state: State) -> dict[str, int]:
    """Return the exit statuses of the processes that have ended unasked and run no more, the first one first."""
    found: list[tuple[int, str, int]] = []
    for path in state.processes.glob("*.end"):
        with suppress(OSError, ValueError):  # It may be gone by now, or damaged.
            found.append((path.stat().st_mtime_ns, path.stem, int(path.read_text())))
    return {name: status for _, name, status in sorted(found)}


def forget_ends(state: State) -> None:
    """Forget all that `note_end` wrote down."""
    for path in state.processes.glob("*.end"):
        path.unlink(missing_ok=True)


def is_held(lock: Path) -> bool:
    """Return whether a living process holds `lock`."""
    try:
        with lock.open() as file:
            return not try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def try_lock(file: IO[str], kind: int) -> bool:
    """Take a lock of a kind (`fcntl.LOCK_EX`, `fcntl.LOCK_SH`) on an open file, and return whether it was to be had."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError):
        return f" (pid {json.loads(path.read_text())['pid']})"
    return ""
