"""A lab to take apart: a checkout, a state folder and ports of its own, and the processes that run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from airflow_celery_lab.configuration import credentials, settings
from airflow_celery_lab.configuration.credentials import Credentials
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import markers, registry
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.testing.ports import free_offset
from airflow_celery_lab.wait import wait_until

#: Seconds after which something that takes a fraction of one is given up; the machine may be busy.
PATIENCE = 30.0
#: What a user's shell may have that would reach into a lab, and the prefixes that such names have.
AMBIENT = ("LAB_", "AIRFLOW", "HONCHO_", "SUPERVISOR_", "PYTHON", "CELERY_", "FLOWER_")


class Running:
    """A process that a test has started, and what it prints."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen = popen
        self.log = log

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def said(self) -> str:
        """The output, without what the launcher says at the beginning and at the end."""
        return "".join(f"{line}\n" for line in markers.last_life(self.output.splitlines()))

    def until(self, *words: str) -> str:
        """Wait until all of `words` have been printed, and return all output."""

        def probe() -> str | None:
            missing = [word for word in words if word not in self.output]
            if missing and self.popen.poll() is not None and missing == [word for word in words if word not in self.output]:
                raise AssertionError(f"it ended with status {self.popen.returncode} before it printed {missing}:\n{self.output}")
            return f"{missing} is missing in {self.output!r}" if missing else None

        wait_until(probe, PATIENCE, "the output", interval=0.01)
        return self.output

    def end(self) -> int:
        """Wait until it has ended, and return its exit status; -N when signal N ended it."""
        return self.popen.wait(timeout=PATIENCE)

    def stop(self) -> int:
        """Ask it to stop, as a supervisor does, and return its exit status."""
        self.popen.terminate()
        return self.end()

    def kill(self) -> int:
        """Kill it, and it alone, and return its exit status."""
        self.popen.kill()
        return self.end()


class Warm:
    """Runs commands of the lab without waiting for the imports of others each time; see warm.py."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, request: dict[str, object]) -> int:
        """Run one command, and return its exit status; -N when signal N ended it."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(request) + "\n")
        self._popen.stdin.flush()
        return int(self._popen.stdout.readline())

    def close(self) -> None:
        self._popen.communicate(timeout=PATIENCE)


class Sandbox:
    """A lab that no user's Procfile, `.env`, state or environment has a part in."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        # Directly below /tmp: the folder of pytest is closed to the user that Postgres runs as under root.
        self.folder = Path(tempfile.mkdtemp(prefix="lab-sandbox-", dir="/tmp"))  # made by mkdtemp
        self.folder.chmod(0o755)
        self.project = self.folder / "project"
        self.home = self.folder / "home"
        for name in ("src", "config", "dags"):
            shutil.copytree(CHECKOUT / name, self.project / name, copy_function=_link_or_copy)
        for name in ("lab", "Procfile", ".env.example"):
            shutil.copy2(CHECKOUT / name, self.project / name)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)},
            "PYTHONPATH": str(self.project / "src"),
            "LAB_HOME": str(self.home),
            "LAB_PORT_OFFSET": str(free_offset()),
            "LAB_STOP_TIMEOUT": "20",
            "LAB_VENV": sys.prefix,
            "LAB_COMMAND": "./lab",
        }
        self._started: list[Running] = []

    @property
    def settings(self) -> Settings:
        return settings.load(self.environ, self.project)

    @property
    def credentials(self) -> Credentials:
        return credentials.load_or_create(State(self.home))

    @property
    def lab(self) -> Lab:
        return Lab(self.settings, self.credentials)

    @property
    def records(self) -> dict[str, Record]:
        return registry.running(State(self.home))

    def run(self, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of the lab until it ends."""
        paths = {name: self.folder / name for name in ("stdin", "stdout", "stderr")}
        paths["stdin"].write_text(answer)
        paths["stdout"].write_text("")
        paths["stderr"].write_text("")
        streams = {name: str(path) for name, path in paths.items()}
        status = self._warm.run({"arguments": arguments, "environ": self.environ, "project": str(self.project), **streams})
        return subprocess.CompletedProcess(arguments, status, paths["stdout"].read_text(), paths["stderr"].read_text())

    def start(self, name: str, *command: str) -> Running:
        """Start a process of the lab under the name `name`, as supervisord would."""
        return self.spawn(
            [sys.executable, "-m", "airflow_celery_lab", "exec", *command], SUPERVISOR_PROCESS_NAME=name, SUPERVISOR_ENABLED="1"
        )

    def spawn(self, command: list[str], **variables: str) -> Running:
        """Start any command in the lab's environment, at the head of a process group."""
        log = self.folder / f"{len(self._started)}.log"
        with log.open("wb") as file:
            popen = subprocess.Popen(
                command,
                cwd=self.project,
                env={**self.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(Running(popen, log))
        return self._started[-1]

    def processes(self) -> list[psutil.Process]:
        """Return the living processes that have this lab's environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("LAB_HOME") == str(self.home):
                    found.append(process)
        return found

    def close(self) -> None:
        """End all processes and delete the folder.

        Raises:
            NotReadyError: processes were left after all that the test had started were stopped.

        """
        try:
            for running in reversed(self._started):
                with suppress(subprocess.TimeoutExpired):
                    running.stop()
            wait_until(self._left, PATIENCE / 3, "the end of all processes", interval=0.02)
        finally:
            for process in self.processes():
                with suppress(psutil.Error):
                    process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _left(self) -> str | None:
        return "; ".join(f"{process.pid} is left" for process in self.processes()) or None


def _link_or_copy(source: str, target: str) -> None:
    """Copy a file that nobody will write to; there are many, for many tests."""
    try:
        os.link(source, target)
    except OSError:  # Another file system, or another owner.
        shutil.copy2(source, target)


def alive(pids: Iterable[int]) -> list[int]:
    """Return those of `pids` that live; a zombie is dead, also while its parent has not collected it."""
    living = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                living.append(pid)
    return living


def until_gone(pids: Iterable[int]) -> None:
    """Wait until none of `pids` lives."""
    wanted = list(pids)
    wait_until(lambda: f"{living} live" if (living := alive(wanted)) else None, PATIENCE / 3, "the end of the processes", interval=0.01)


def until(condition: Callable[[], object], what: str, interval: float = 0.01) -> None:
    """Wait until `condition` holds."""
    wait_until(lambda: None if condition() else "not yet", PATIENCE, what, interval=interval)
