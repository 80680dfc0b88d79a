"""The folder of a lab for tests, and who keeps it. Files in one folder are all that the processes of a session share.

Every session with pytest-xdist imports this, whether its tests use a lab or not: nothing large is imported here.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple


class Home(NamedTuple):
    """The folder of a lab for tests."""

    folder: Path

    @property
    def needed(self) -> Path:
        """Locked by the keeper: when it is free, the session is over."""
        return self.folder / "needed"

    @property
    def watched(self) -> Path:
        """Locked by the watcher while it lives."""
        return self.folder / "watched"

    @property
    def starting(self) -> Path:
        """Locked while the lab is started or ended."""
        return self.folder / "starting"

    @property
    def users(self) -> Path:
        """Locked, together with others, by each process whose tests use a lab that is kept for the next session."""
        return self.folder / "users"

    @property
    def gate(self) -> Path:
        """Locked by a test that waits for its turn."""
        return self.folder / "gate"

    @property
    def turn(self) -> Path:
        """Locked by each test that uses the lab, together with others or alone."""
        return self.folder / "turn"

    @property
    def state(self) -> Path:
        """The state folder of the lab."""
        return self.folder / "state"

    @property
    def procfile(self) -> Path:
        """The lab's processes, where the tests want other workers than the project has."""
        return self.folder / "Procfile"

    @property
    def keep(self) -> Path:
        """There when the lab is to go on after the session."""
        return self.folder / "keep"

    @property
    def broken(self) -> Path:
        """Why the lab did not start."""
        return self.folder / "broken"

    @property
    def started(self) -> Path:
        """There when the lab has been ready once."""
        return self.folder / "started"

    @property
    def description(self) -> Path:
        """The lab's settings, and what it was started for."""
        return self.folder / "lab.json"

    def describe(self, variables: dict[str, str], wanted: str) -> None:
        """Write down the settings with which the lab's commands find it, and a word for what it was started for."""
        self.description.write_text(json.dumps({"variables": variables, "wanted": wanted}), encoding="utf-8")

    def variables(self) -> dict[str, str]:
        """Return the settings that were written down, none where no lab was started."""
        return dict(self._described().get("variables", {}))

    def wanted(self) -> str:
        """Return the word that was written down, "" where no lab was started."""
        return str(self._described().get("wanted", ""))

    def _described(self) -> dict[str, dict[str, str]]:
        with suppress(OSError, ValueError):
            return dict(json.loads(self.description.read_text(encoding="utf-8")))
        return {}


@contextmanager
def locked(path: Path, kind: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which the kernel also lets go of when this process ends.

    Raises:
        BlockingIOError: `kind` has LOCK_NB, and another process holds it.

    """
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, kind)
        yield


class Keeper:
    """Keeps the lab of a session, in the process that outlives all others of it, pytest-xdist's workers included."""

    def __init__(self) -> None:
        # Directly below the system's temporary folder: Postgres, which is not root, must get there.
        self.home = Home(Path(tempfile.mkdtemp(prefix="lab-pytest-")))
        self.home.folder.chmod(0o711)
        self._needed: IO[str] = self.home.needed.open("w", encoding="utf-8")
        fcntl.flock(self._needed, fcntl.LOCK_EX)

    @property
    def used(self) -> bool:
        """Whether a lab was started, or tried to be."""
        return self.home.description.exists()

    def close(self, *, keep: bool = False) -> None:
        """Say that the session is over, and wait until its lab has ended; or let the lab go on.

        Raises:
            LabError: something of it cannot be ended.

        """
        if keep:
            self.home.keep.touch()
        self._needed.close()
        with suppress(FileNotFoundError), locked(self.home.watched):  # The watcher is done, or none was started.
            if keep or not self.home.folder.exists():
                return
            if self.used:
                from airflow_celery_lab.testing import shared

                with locked(self.home.starting):
                    shared.stop(self.home, os.environ)
            shutil.rmtree(self.home.folder)


@contextmanager
def turn(home: Home, *, alone: bool) -> Iterator[None]:
    """Run a test when no test that wants the lab alone runs, or `alone` when no test at all does."""
    home.folder.mkdir(mode=0o711, exist_ok=True)
    with home.turn.open("a", encoding="utf-8") as file:
        # One that waits keeps the gate shut, or tests that come together would never let it in.
        with locked(home.gate):
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
