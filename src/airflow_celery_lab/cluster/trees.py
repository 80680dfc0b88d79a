"""The process tree of each process of a lab, and what it is doing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

from airflow_celery_lab.configuration.services import FORKSERVER, describe
from airflow_celery_lab.launcher import process_table
from airflow_celery_lab.launcher.process_table import Process
from airflow_celery_lab.launcher.registry import Record

#: Begins the title that Airflow gives to the process of a task.
TASK = "airflow worker -- "


def pids(record: Record) -> set[int]:
    """Return the pids of a process: its launcher's and all below; none when it has ended."""
    return _tree(record, process_table.table())


def _tree(record: Record, table: Sequence[Process]) -> set[int]:
    living = {row.pid for row in table}
    if record.pid not in living:
        return set()
    roots = {record.pid, record.reaper} & living
    found = roots | process_table.descendants(roots, table)
    if describe(record.command).kind == FORKSERVER:  # What it has forked belongs to the processes that it was forked for.
        found -= process_table.descendants({record.main_pid}, table)
    return found


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
    table = process_table.table() if records else []  # Once: each look at it reads a file a process of the machine.
    return {name: round(sum(map(_memory, _tree(record, table))) / 1e6, 1) for name, record in records.items()}


def _memory(pid: int) -> int:
    with suppress(psutil.Error, OSError):  # It may have ended since.
        info = psutil.Process(pid).memory_full_info()
        return getattr(info, "pss", 0) or info.rss
    return 0
