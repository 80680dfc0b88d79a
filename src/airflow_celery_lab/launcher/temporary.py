"""A folder for what a Celery worker would leave in the system's temporary folder, removed by its launcher.

A worker keeps memory that its pool processes share in files of a folder `pymp-...` (`multiprocessing.util.get_temp_dir`),
and removes it only when it ends by itself. What tasks write into the temporary folder is theirs, and stays.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.configuration.state import State

#: Where the program finds the folder.
VARIABLE = "LAB_TEMPORARY"
#: Bytes of a Unix socket's path on macOS, less what `multiprocessing.Manager` in a task appends.
ROOM = 103 - len("/pymp-12345678/listener-12345678")


def make(state: State, process: str) -> Path | None:
    """Return a new, empty folder for `process`, None where there can be none."""
    path = folder(state, process)
    remove(path)  # Of one whose launcher was killed.
    with suppress(OSError):
        path.mkdir(mode=0o700, parents=True)
        return path
    return None


def remove(path: Path) -> None:
    """Remove the folder with all that is in it."""
    import shutil  # Needed at the end only.

    shutil.rmtree(path, ignore_errors=True)


def folder(state: State, process: str) -> Path:
    """Return the folder of `process`: in the state, or where that path is too long for sockets, in one that is short."""
    own = state.temporary(process)
    if len(os.fsencode(own)) <= ROOM:
        return own
    return Path(f"/tmp/lab-{os.getuid()}-{zlib.crc32(os.fsencode(own)):08x}")  # noqa: S108  # ours alone: `make` makes it, or there is none
