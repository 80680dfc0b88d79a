"""`python -m airflow_celery_lab.testing.watcher FOLDER`: ends the lab of a test session when the session is over.

However it ends, by Ctrl-C, a crash or `kill -9`: the kernel lets go of the keeper's lock.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.testing import shared
from airflow_celery_lab.testing.home import Home, locked


def main(folder: str) -> None:
    """Wait for the end of the session, and end its lab."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    home = Home(Path(folder))
    # The folder is gone when another one was quicker.
    with suppress(FileNotFoundError), locked(home.watched), locked(home.needed, fcntl.LOCK_SH), locked(home.starting):
        if not home.keep.exists():
            shared.stop(home, os.environ)
            shutil.rmtree(home.folder)


if __name__ == "__main__":
    main(sys.argv[1])
