"""Breaks a process of the lab on purpose, as lost and hung machines do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

from airflow_celery_lab.cluster import trees
from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.supervision.supervisord import Supervisor
from airflow_celery_lab.wait import wait_until


def kill(record: Record, supervisor: Supervisor) -> int:
    """Kill a process with its launcher and all that descends from it, at one moment; return how many died.

    Raises:
        NotReadyError: some of them cannot be killed.

    """
    victims: dict[int, psutil.Process] = {}
    # Stopped ones start nothing new and clean nothing up: what is found then is all there is.
    while new := [pid for pid in trees.pids(record) if pid not in victims]:
        for pid in new:
            with suppress(psutil.NoSuchProcess):
                victims[pid] = psutil.Process(pid)
        send(new, signal.SIGSTOP)
    send(list(victims), signal.SIGKILL)

    def left() -> str | None:
        alive = [process.pid for process in victims.values() if trees.lives(process)]
        return f"{alive} live" if alive else None

    wait_until(left, 10, f"the end of {record.name}", interval=0.01)
    if supervisor.running:
        _insist(supervisor, record)
    return len(victims)


def _insist(supervisor: Supervisor, killed: Record) -> None:
    """Let supervisord start again what it would give up.

    It gives up what ends several times soon after a start; here the fault was injected.
    """
    name = killed.name
    wait_until(
        lambda: "it has not noticed" if supervisor.pid_of(name) == killed.pid else None, 10, f"supervisord, after the end of {name},"
    )
    if supervisor.states().get(name) == "FATAL":
        supervisor.launch([name])


def pause(record: Record) -> int:
    """Stop a program and all below it, as a hung machine; its launcher can still end it. Return how many.

    Raises:
        NotReadyError: it has not become its program yet.

    """
    return send(_program(record), signal.SIGSTOP)


def resume(record: Record) -> int:
    """Let a paused program go on; return how many processes that were. Its launcher too may have been stopped by hand."""
    send(list(trees.pids(record)), signal.SIGCONT)
    return send(_program(record), signal.SIGCONT)


def send(pids: Iterable[int], number: signal.Signals) -> int:
    """Send a signal to those of the processes that are still there; return how many."""
    sent = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            sent += 1
    return sent


def _program(record: Record) -> list[int]:
    tree = trees.pids(record)
    if not record.main_pid:
        raise NotReadyError(f"{record.name} is still waiting ({record.reason}); pause it when it runs.", process=record.name)
    try:
        root = psutil.Process(record.main_pid)
        return [root.pid, *(child.pid for child in root.children(recursive=True) if child.pid in tree)]
    except psutil.NoSuchProcess as error:
        raise NotReadyError(f"{record.name} has just ended; pause it when it runs again.", process=record.name) from error
