"""A lab in a folder and on ports of its own, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from airflow_celery_lab.cluster import trees
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import procfile, roots, settings
from airflow_celery_lab.errors import NotReadyError, NotRunningError
from airflow_celery_lab.testing.ports import free_offset
from airflow_celery_lab.wait import wait_until

#: Seconds in which a lab has ended that was asked to stop, or whose honcho was killed.
GONE = 10.0
#: The labs of this process that are there.
_LABS: list[ThrowawayLab] = []


class ThrowawayLab:
    """A lab in a folder and on ports of its own. It can be started and stopped many times."""

    def __init__(self, dags: Path | None = None, variables: Mapping[str, str] | None = None, project: Path | None = None) -> None:
        """Make the lab of `project`, by default the one around the current folder, with other DAGs or variables where these are given."""
        # Directly below the system's temporary folder: Postgres, which is not root, must get there.
        self.home = Path(tempfile.mkdtemp(prefix="lab-"))
        self.project = project or roots.find_project(os.environ)
        self.log = self.home / "up.log"
        ambient = {
            name: value
            for name, value in os.environ.items()
            if name in settings.MACHINE or not name.startswith(("LAB_", "AIRFLOW_", "HONCHO_", "SUPERVISOR_"))
        }
        self.environ = {
            **ambient,
            "LAB_HOME": str(self.home / "state"),
            roots.VARIABLE: str(self.project),
            "LAB_PORT_OFFSET": str(free_offset()),
            "LAB_VENV": _environment(),
            **({"LAB_DAGS": str(dags)} if dags else {}),
            **(variables or {}),
        }
        # The state folder's parent lets Postgres pass through.
        self.home.chmod(0o711)
        self.cluster = Cluster.open(self.environ)
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: dict[int, psutil.Process] = {}
        _LABS.append(self)

    @property
    def program(self) -> list[str]:
        """The lab's command: the checkout's script where the project is one, else this environment's."""
        script = self.project / "lab"
        return [str(script)] if script.exists() else [sys.executable, "-m", "airflow_celery_lab"]

    def up(self, *arguments: str, command: list[str] | None = None, wait: bool = True) -> float:
        """Start the lab in the background and return the seconds until it was ready.

        `arguments` go to `lab up`; `command` runs instead of it, such as `honcho start`.

        Raises:
            NotReadyError: it did not become ready; the message ends with its last words.

        """
        words = command or [*self.program, "up", *arguments]
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
        expected = procfile.services_of(procfile.instances(self.cluster.lines(), dict(_counts(arguments))))
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
        """Run a command of the lab, such as `command("run", "parallel_tasks", "--json")`, and return what it printed.

        Raises:
            NotRunningError: the lab was destroyed.

        """
        if self not in _LABS:
            raise NotRunningError("this lab was destroyed; make another one.")
        done = subprocess.run(
            [*self.program, *arguments],
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
        pids = [record.pid for record in self.cluster.records.values()]
        if self.process is not None and self.process.poll() is None:
            pids.append(self.process.pid)
        with suppress(OSError, ValueError):
            pids.append(int(self.cluster.lab.state.supervisord_pid.read_text()))
        tree: dict[int, psutil.Process] = {}
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                tree.update({process.pid: process for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))})
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
        return [process for process in self._seen.values() if trees.lives(process)]

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
        """Kill what runs, and delete the folder."""
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
        if self in _LABS:
            _LABS.remove(self)


def destroy_all() -> None:
    """Destroy all labs that this process has made, for a session that is broken off: it has no time for what tests do at their end."""
    for lab in _LABS.copy():
        with suppress(NotReadyError):  # One that resists is no reason to leave the others.
            lab.destroy()


@contextmanager
def throwaway_lab(
    dags: Path | None = None, variables: Mapping[str, str] | None = None, project: Path | None = None
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


def _environment() -> str:
    """Return this Python's environment as LAB_VENV names it: the link, without the release of Airflow that `lab` adds."""
    path = Path(sys.prefix)
    link = str(path.parent).removesuffix(".d") if path.parent.suffix == ".d" else sys.prefix
    return link.removesuffix(f"-{os.environ.get('LAB_AIRFLOW')}")


def _counts(arguments: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    for argument in arguments:
        name, equals, number = argument.partition("=")
        if equals and number.isdecimal():
            yield name, int(number)
