"""What a lab could leave on a machine besides processes: files, shared memory, semaphores, sockets, ports."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

#: Where Linux lists the shared memory and the semaphores of System V; the second column is the id.
SYSTEM_V = Path("/proc/sysvipc")
#: Where Linux has POSIX shared memory and semaphores.
POSIX = "/dev/shm/"  # noqa: S108  # looked at only


def look(temporary: Path, ports: Iterable[int]) -> set[str]:
    """Return all that lies in the folder `temporary`, the machine's semaphores, and those of `ports` on which somebody listens."""
    wanted = set(ports)
    listened = {one.laddr.port for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr}
    return {
        *map(str, temporary.rglob("*")),
        *(f"semaphores {number}" for number in _system_v("sem")),
        *(f"port {port}" for port in wanted & listened),
    }


def memory_of(pids: Iterable[int]) -> set[str]:
    """Return the names of the shared memory that processes have: POSIX's paths, and System V's numbers."""
    found = set()
    for pid in pids:
        with suppress(OSError):  # It has ended, or is not a process of ours.
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                _addresses, _rights, _offset, _device, inode, *path = line.split()
                if path and path[0].startswith(POSIX):
                    found.add(path[0])
                elif path and path[0].startswith("/SYSV"):
                    found.add(inode)
    return found


def left(memory: Iterable[str]) -> set[str]:
    """Return what of `memory`, which processes had, is still there."""
    there = _system_v("shm")
    return {name for name in memory if name in there or (name.startswith(POSIX) and Path(name).exists())}


def _system_v(kind: str) -> set[str]:
    with suppress(OSError):
        return {line.split()[1] for line in (SYSTEM_V / kind).read_text().splitlines()[1:]}
    return set()
