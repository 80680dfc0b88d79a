"""Files of the state: written whole or not at all, so that a full disk or a killed process leaves none cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Put `text` into `path`, which keeps what it had when that fails.

    Raises:
        OSError: it fails.

    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def free_inodes(folder: Path) -> int | None:
    """Return how many more files the file system of `folder`, which need not exist yet, takes; None when it does not count them.

    Raises:
        OSError: it cannot be asked.

    """
    found = os.statvfs(_nearest(folder))
    return found.f_favail if found.f_files else None


def lacking(folder: Path) -> list[str]:
    """Return what the state of a lab needs and the file system of `folder`, which need not exist yet, cannot do.

    A mounted folder of Windows, for example, has none of it. What is made to find out is removed.

    Raises:
        OSError: nothing can be made there at all.

    """
    import shutil  # Launchers, which are small, hardly ever come here.
    import tempfile

    probe = Path(tempfile.mkdtemp(prefix=".lab-probe-", dir=_nearest(folder)))
    try:
        file = probe / "file"
        file.touch()
        return [what for what, attempt in ABILITIES.items() if not _can(attempt, file)]
    finally:
        shutil.rmtree(probe, ignore_errors=True)


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _can(attempt: Callable[[Path], bool], file: Path) -> bool:
    try:
        return attempt(file)
    except OSError:
        return False


def _keeps_modes(file: Path) -> bool:
    for mode in (0o600, 0o644):
        file.chmod(mode)
        if file.stat().st_mode & 0o777 != mode:
            return False  # Windows folders take any mode without a word.
    return True


def _links(file: Path) -> bool:
    os.link(file, file.with_name("link"))
    return True


def _locks(file: Path) -> bool:
    import fcntl

    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def _sockets(file: Path) -> bool:
    import socket

    path = os.fsencode(file.with_name("socket"))
    if len(path) > LONGEST_SOCKET:
        return True  # supervisord's has a shorter path elsewhere then.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    return True


def _colons(file: Path) -> bool:
    file.with_name("a:b").touch()
    return True


#: Bytes of a Unix socket's path that every system takes.
LONGEST_SOCKET = 103
#: Modes: secrets are their owner's alone, and Postgres starts with no other. Links: secrets appear whole, and supervisord
#: publishes its socket by one. Locks: who runs. Colons: Airflow names the logs of a task after its run.
ABILITIES: dict[str, Callable[[Path], bool]] = {
    "file modes": _keeps_modes,
    "hard links": _links,
    "file locks": _locks,
    "Unix sockets": _sockets,
    "names with a colon": _colons,
}
