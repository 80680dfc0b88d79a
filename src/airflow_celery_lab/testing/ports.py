"""Ports for labs of tests. No two processes of a user get the same ones, such as those of pytest-xdist.

A lab that has not started yet, or is stopped for a moment, listens nowhere, so its ports look free. Therefore each port is
a byte of one file that stays empty: the process that uses the port holds a lock on its byte, until it ends.
"""

from __future__ import annotations

import fcntl
import os
import random
from contextlib import suppress
from functools import cache
from typing import IO

from airflow_celery_lab.configuration import roots
from airflow_celery_lab.configuration.settings import BASE_PORTS
from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.servers import probes

#: Offsets that keep all ports below 32768, where Linux begins to hand out ports for outgoing connections.
OFFSETS = range(200, 16_000)


def free_offset() -> int:
    """Return a port offset at which all of a lab's ports are free, and belong to this process from now on.

    Raises:
        NotReadyError: there is none.

    """
    candidates = list(OFFSETS)
    random.shuffle(candidates)
    for offset in candidates:
        ports = [port + offset for port in BASE_PORTS.values()]
        if not any(probes.port_taken("127.0.0.1", port) for port in ports) and all(map(_reserve, ports)):
            return offset
    raise NotReadyError("no port offset is free on this machine; stop some servers")


def _reserve(port: int) -> bool:
    """Return whether this process has the port: nobody else has it, or has had it and lives."""
    file = _reservations()
    if file is None:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port, os.SEEK_SET)
    except OSError:
        return False
    return True


@cache
def _reservations() -> IO[str] | None:
    """Return the file, None where it cannot be made; opened once, as closing it anywhere in this process would end all of its locks."""
    folder = roots.cache()
    with suppress(OSError):
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return (folder / "ports").open("a", encoding="utf-8")
    return None
