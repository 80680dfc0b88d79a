"""Pytest fixtures that give a running cluster, for the lab's own tests and for tests of your DAGs.

In your `conftest.py`:

    pytest_plugins = ["celery_lab.testing"]

    @pytest.fixture(scope="session")
    def lab_dags() -> Path:
        return Path("my/dags")

and in a test:

    def test_my_dag(lab_cluster: Cluster) -> None:
        assert runs.run(lab_cluster, "my_dag").state == "success"

Each cluster has a state folder and ports of its own, so it never meets one that you are using.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from celery_lab import probes, procfile, settings
from celery_lab.cluster import Cluster
from celery_lab.errors import NotReadyError
from celery_lab.settings import BASE_PORTS, PROJECT
from celery_lab.wait import wait_until

#: Offsets that keep all ports below 32768, where Linux begins to hand out ports for outgoing connections.
OFFSETS = range(200, 16_000)
#: What a checkout needs to run, without its environment.
PARTS = ("lab", "Procfile", "supervisord.conf", "config", "dags", "src", "requirements.lock", "requirements")
#: Seconds in which a lab that was told to stop, or whose honcho was killed, is gone.
GONE = 10.0


class ThrowawayLab:
    """A lab in a folder and on ports of its own. It can be started and stopped many times."""

    def __init__(self, dags: Path = PROJECT / "dags", variables: Mapping[str, str] | None = None, project: Path = PROJECT) -> None:
        # Directly below the system's folder for such things: Postgres, which is not root, must get there.
        self.home = Path(tempfile.mkdtemp(prefix="lab-"))
        self.project = project
        self.log = self.home / "up.log"
        ambient = {
            name: value
            for name, value in os.environ.items()
            if name in settings.MACHINE or not name.startswith(("LAB_", "AIRFLOW_", "HONCHO_", "SUPERVISOR_"))
        }
        self.environ = {
            **ambient,
            "LAB_HOME": str(self.home / "state"),
            "LAB_DAGS": str(dags),
            "LAB_PORT_OFFSET": str(free_offset()),
            "LAB_VENV": sys.prefix,
            **(variables or {}),
        }
        # The state folder's parent lets Postgres pass through.
        self.home.chmod(0o711)
        self.cluster = Cluster.open(self.environ)
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}

    def up(self, *arguments: str, command: list[str] | None = None, wait: bool = True) -> float:
        """Start the lab in the background and return the seconds until it was ready.

        `arguments` go to `lab up`; `command` runs instead of it, such as `honcho start`.

        Raises:
            NotReadyError: it did not become ready; the message ends with its last words.

        """
        words = command or [str(self.project / "lab"), "up", *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                words,
                cwd=self.project,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not wait:
            return 0.0
        expected = procfile.expected(procfile.read(self.project / "Procfile"), dict(_counts(arguments)))
        starting = self.process

        def give_up(reason: str) -> None:
            if starting.poll() is not None:
                raise NotReadyError(f"`{' '.join(words)}` ended with status {starting.returncode}: {reason}\n{self.tail()}")

        try:
            seconds = self.cluster.wait_until_ready(expected=expected, on_wait=give_up)
        except NotReadyError as error:
            raise NotReadyError(f"{error}\n{self.tail()}") from error
        self.look()
        return seconds

    def command(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the lab, such as `command("run", "parallel_tasks", "--json")`, and return what it printed."""
        done = subprocess.run(
            [str(self.project / "lab"), *arguments],
            cwd=self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"`lab {' '.join(arguments)}` exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def look(self) -> set[int]:
        """Remember the processes that run now, so that `left_over` can tell if they are still there later."""
        roots = [record.pid for record in self.cluster.records.values()]
        if self.process is not None and self.process.poll() is None:
            roots.append(self.process.pid)
        with suppress(OSError, ValueError):
            roots.append(int((self.cluster.settings.home / "supervisord.pid").read_text()))
        tree: dict[int, psutil.Process] = {}
        for root in roots:
            with suppress(psutil.NoSuchProcess):
                tree.update({process.pid: process for process in (psutil.Process(root), *psutil.Process(root).children(recursive=True))})
        self._seen.update(tree)
        return set(tree)

    def commands(self) -> dict[int, list[str]]:
        """Return the command line of each process of the lab that lives now, by its pid."""
        lines = {}
        for pid in self.look():
            with suppress(psutil.NoSuchProcess):  # Tasks come and go; a zombie has no command line either.
                lines[pid] = psutil.Process(pid).cmdline()
        return lines

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop the lab as Ctrl-C does, or with another signal, and return its exit status.

        Raises:
            NotReadyError: some of its processes are still there after GONE seconds.

        """
        assert self.process is not None
        self.look()
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)  # A terminal signals the whole foreground group.
        else:
            self.process.send_signal(number)
        status = self.process.wait(timeout=60)
        self.wait_until_gone()
        self.process = None
        return status

    def left_over(self) -> list[psutil.Process]:
        """Return the processes of this lab, of all that were seen, that still run."""
        return [process for process in self._seen.values() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    def wait_until_gone(self) -> float:
        """Wait until no process of this lab is left, and return the seconds that took.

        Raises:
            NotReadyError: some are still there after GONE seconds.

        """
        return wait_until(lambda: ", ".join(map(str, self.left_over())) or None, GONE, "the end of the lab")

    def tail(self, lines: int = 40) -> str:
        """Return the last lines that the lab has printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def destroy(self) -> None:
        """Stop what runs, at any price, and delete the folder."""
        self.cluster.close()
        self.look()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in self.left_over():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait_until_gone()
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def throwaway_lab(
    dags: Path = PROJECT / "dags", variables: Mapping[str, str] | None = None, project: Path = PROJECT
) -> Iterator[ThrowawayLab]:
    """Make a lab that is gone after the block; its last words are shown when the block fails."""
    lab = ThrowawayLab(dags, variables, project)
    try:
        yield lab
    except BaseException:
        print(lab.tail(200))
        raise
    finally:
        lab.destroy()


def copy_project(folder: Path) -> Path:
    """Copy what a checkout needs to run into `folder`, and return that; a test may edit the copy."""
    for part in PARTS:
        source = PROJECT / part
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / part)
    return folder


def free_offset() -> int:
    """Return a port offset at which all of a lab's ports are free."""
    candidates = list(OFFSETS)
    random.shuffle(candidates)
    for offset in candidates:
        if not any(probes.port_taken("127.0.0.1", port + offset) for port in BASE_PORTS.values()):
            return offset
    raise NotReadyError("no port offset is free on this machine; stop some servers")


@pytest.fixture(scope="session")
def lab_dags() -> Path:
    """Return the DAG folder of `lab_cluster`; define a fixture of this name to use your own."""
    return settings.load(os.environ).dags


@pytest.fixture(scope="session")
def lab(lab_dags: Path) -> Iterator[ThrowawayLab]:
    """Run one lab for the whole test session."""
    with throwaway_lab(lab_dags) as running:
        running.up()
        yield running
        running.stop()


@pytest.fixture
def lab_cluster(lab: ThrowawayLab) -> Cluster:
    """Return the handle on the running cluster."""
    return lab.cluster


def _counts(arguments: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for argument in arguments:
        name, equals, number = argument.partition("=")
        if equals and number.isdecimal():
            yield name, int(number)
