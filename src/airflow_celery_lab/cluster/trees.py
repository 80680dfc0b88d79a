"""The process tree of each process of a lab, and what it is doing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

import psutil

from airflow_celery_lab.configuration.services import FORKSERVER, describe
from airflow_celery_lab.launcher.registry import Record

#: Begins the title that Airflow gives to the process of a task.
TASK = "airflow worker -- "


def pids(record: Record) -> set[int]:
    """Return the pids of a process: its launcher's and all below; none when it has ended.

    What the forkserver has forked belongs to the processes that it was forked for.
    """
    if not psutil.pid_exists(record.pid):
        return set()
    found = _tree(record.pid) | (_tree(record.reaper) if record.reaper else set())
    if describe(record.command).kind == FORKSERVER and record.main_pid:
        found -= _tree(record.main_pid) - {record.main_pid}
    return found


def _tree(pid: int) -> set[int]:
    with suppress(psutil.NoSuchProcess):
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    return set()


def lives(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that nobody has collected yet has."""
    with suppress(psutil.NoSuchProcess):  # It may end between the two questions.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def paused(records: Mapping[str, Record]) -> list[str]:
    """Return the names of the processes whose program was stopped like a hung machine."""
    names = []
    for name, record in records.items():
        with suppress(psutil.Error):
            if record.main_pid and psutil.Process(record.main_pid).status() == psutil.STATUS_STOPPED:
                names.append(name)
    return names


def busy(records: Mapping[str, Record]) -> list[str]:
    """Return the names of the processes whose program runs a task itself, as a worker with `pool=solo`, and answers nobody meanwhile.

    With any other pool a task stands below a process of that pool.
    """
    names = []
    for name, record in records.items():
        with suppress(psutil.Error, ProcessLookupError):
            below = psutil.Process(record.main_pid).children() if record.main_pid else []
            if any(map(_is_task, below)):
                names.append(name)
    return names


def _is_task(process: psutil.Process) -> bool:
    """Return whether a process is a task's: from Airflow 3.3 on a process group of its own, before that by its title."""
    return os.getpgid(process.pid) == process.pid or "".join(process.cmdline()[:1]).startswith(TASK)


def memory(records: Mapping[str, Record]) -> dict[str, float]:
    """Return megabytes by process, its whole tree counted, each shared page divided among its users."""
    sizes = {}
    for name, record in records.items():
        total = 0
        for pid in pids(record):
            with suppress(psutil.Error, OSError):
                info = psutil.Process(pid).memory_full_info()
                total += getattr(info, "pss", 0) or info.rss
        sizes[name] = round(total / 1e6, 1)
    return sizes
