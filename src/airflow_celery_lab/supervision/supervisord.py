"""The lab in the background: supervisord, and what it is asked to do."""

from __future__ import annotations

import configparser
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import environment, files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.errors import NotReadyError, NotRunningError, ProcfileError, StateFolderError
from airflow_celery_lab.launcher import process_table
from airflow_celery_lab.supervision import supervisord_configuration as configuration
from airflow_celery_lab.supervision.wanted import Plan, plan, stop_order
from airflow_celery_lab.wait import wait_until

#: Bytes of a Unix socket's path on Linux and macOS (103), less what supervisord appends while it binds.
SOCKET_PATH = 90
#: States of a process that lives.
ALIVE = ("RUNNING", "STARTING", "STOPPING")
#: supervisord's word for what was started, and ended soon.
ENDED = "Exited too quickly"
#: Seconds beyond LAB_STOP_TIMEOUT in which the launcher of a process kills what does not end.
MARGIN = 30


class _RefusedError(Exception):
    """supervisord's answer to a wish that makes no sense, or no more."""


class Supervisor:
    """supervisord of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._state = lab.state

    @property
    def socket(self) -> Path:
        """Where supervisord listens: in the state folder, or in a short path of the user's own."""
        path = self._state.supervisord_socket
        if len(os.fsencode(path)) <= SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self._state.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"lab-{os.getuid()}-{digest}" / path.name

    @property
    def running(self) -> bool:
        """Whether it answers."""
        try:
            self._call("getState")
        except NotRunningError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Its process.

        Raises:
            NotRunningError: it does not run.

        """
        return int(self._call("getPID"))

    @property
    def processes(self) -> Processes:
        """The processes that it was last told to run.

        Raises:
            StateFolderError: its configuration is damaged.

        """
        return self._read(self._active_configuration())

    def start(self, processes: Processes, environ: Mapping[str, str]) -> None:
        """Start supervisord in the background with `processes`.

        Raises:
            NotReadyError: it did not start.

        """
        make_private_folder(self._state.process_logs)
        make_private_folder(self.socket.parent)
        path = self._state.supervisord_configuration
        self._write(processes, path)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(path)]
        variables = environment.of_supervisor(self._lab, environ)
        started = subprocess.run(command, cwd=self._lab.settings.project, env=variables, capture_output=True, text=True, check=False)
        if started.returncode:
            words = (started.stderr or started.stdout).strip().splitlines()[-1:] or ["no reason given"]
            raise NotReadyError(
                f"supervisord did not start: {words[0]}; see {self._state.supervisord_log}.", path=self._state.supervisord_log
            )
        wait_until(lambda: None if self.running else "it does not answer", 10, "supervisord")

    def states(self) -> dict[str, str]:
        """Return the state of each process by its name; empty when supervisord does not run.

        A state is STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED or FATAL.
        """
        try:
            infos: list[dict[str, Any]] = self._call("getAllProcessInfo")
        except NotRunningError:
            return {}
        return {info["name"]: info["statename"] for info in infos}

    def pid_of(self, name: str) -> int:
        """Return the pid of a process as supervisord knows it, 0 when it runs none of that name.

        Raises:
            NotRunningError: supervisord does not run.

        """
        return int(self._info(name).get("pid", 0))

    def spawn_error(self, name: str) -> str:
        """Return why supervisord could not start a process at all, "" when it could.

        Raises:
            NotRunningError: supervisord does not run.

        """
        error = str(self._info(name).get("spawnerr", ""))
        return "" if error.startswith(ENDED) else error

    def _info(self, name: str) -> dict[str, Any]:
        infos: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return next((info for info in infos if info["name"] == name), {})

    def launch(self, names: Iterable[str]) -> None:
        """Start those of `names` that do not run."""
        for name in names:
            with suppress(_RefusedError):  # Another command has just started it.
                self._call("startProcess", name, False)  # noqa: FBT003  # do not wait: XML-RPC has no keywords

    def stop(self, names: Iterable[str], on_wait: Callable[[str], None] = lambda _reason: None, timeout: float | None = None) -> list[str]:
        """Stop `names`, all at once, each in its own way; return those that have not ended after `timeout` seconds.

        The launchers kill what takes longer than LAB_STOP_TIMEOUT, so without a `timeout` none is left.
        """
        states = self.states()
        pending = [name for name in names if states.get(name) in (*ALIVE, "BACKOFF")]
        for name in pending:
            with suppress(_RefusedError):
                self._call("stopProcess", name, False)  # noqa: FBT003  # as above
        deadline = time.monotonic() + (timeout if timeout is not None else self._lab.settings.stop_timeout + MARGIN)
        while pending and time.monotonic() < deadline:
            on_wait(", ".join(pending))
            time.sleep(0.1)
            states = self.states()
            pending = [name for name in pending if states.get(name) in ALIVE]
        return pending

    def renew(self, names: Iterable[str]) -> None:
        """Let `names` end, each in its own way; supervisord itself starts them again, also when the caller is gone by then."""
        for name in names:
            with suppress(_RefusedError):  # It ends already.
                self._call("signalProcess", name, "TERM")

    def apply(self, processes: Processes, stale: Collection[str] = (), on_wait: Callable[[str], None] = lambda _reason: None) -> Plan:
        """Make `processes` the running ones, touch only what differs or is `stale`, and return what was done."""
        active = self._active_configuration()
        current = self._read(active)
        difference = plan(current, processes, stale)
        if not difference:
            return difference
        self._write(processes, active)
        self._call("reloadConfig")
        ending = [*difference.removed, *difference.changed]
        known = self.states()
        for names in stop_order(current):
            self.stop([name for name in names if name in ending and name in known], on_wait)
        for name in ending:
            with suppress(_RefusedError):
                self._call("removeProcessGroup", name)
        for name in (*difference.changed, *difference.added):
            self._call("addProcessGroup", name)
        return difference

    def shut_down(self) -> None:
        """End supervisord, whose processes have ended."""
        pid = self.pid
        self._call("shutdown")
        wait_until(lambda: "it still runs" if _runs(pid) else None, 30, "the end of supervisord")
        if self.socket.parent != self._state.home:
            with suppress(OSError):
                self.socket.parent.rmdir()

    def tail(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a process's log."""
        # At most 10 MB, as config/supervisord has it.
        with suppress(OSError), self._state.process_log(name).open("rb") as file:
            return [line.decode(errors="replace").rstrip("\r\n") for line in deque(file, maxlen=lines)]
        return []

    def _active_configuration(self) -> Path:
        """Return the file that supervisord reads: the state's, or the project's when it was started by hand."""
        import psutil

        own = self._state.supervisord_configuration
        with suppress(NotRunningError, psutil.Error):
            if str(own) not in psutil.Process(self.pid).cmdline():
                return self._lab.settings.project / configuration.NAME
        return own

    def _read(self, path: Path) -> Processes:
        try:
            processes = configuration.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, configparser.Error, LookupError, ProcfileError):
            processes = {}
        if not processes:
            raise StateFolderError(
                f"{path} is damaged, and with it is lost what supervisord runs; end it with `kill {self.pid}`, and run `{typed()} up -d`.",
                path=path,
            )
        return processes

    def _write(self, processes: Processes, path: Path) -> None:
        ours = path == self._state.supervisord_configuration
        text = (
            configuration.for_lab(processes, self._lab.settings.project, self._state, self.socket)
            if ours
            else configuration.for_project(processes)
        )
        files.write(path, text, 0o600 if ours else 0o644)

    def _call(self, method: str, *arguments: Any) -> Any:
        # Most commands do not ask supervisord, and need not wait for these imports.
        from http.client import HTTPException
        from xmlrpc.client import Fault, ServerProxy

        from supervisor.xmlrpc import Faults, SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except Fault as fault:
            if fault.faultCode == Faults.SHUTDOWN_STATE:
                raise self._not_running() from fault
            raise _RefusedError(fault.faultString) from fault
        except (OSError, HTTPException) as error:
            raise self._not_running() from error

    def _not_running(self) -> NotRunningError:
        home = self._state.home
        return NotRunningError(f"the lab in {home} does not run in the background; start it with `{typed()} up -d`.", path=home)


def _runs(pid: int) -> bool:
    """Return whether `pid` lives; in a container without an init, what has ended may stay a zombie."""
    return any(row.pid == pid and not row.zombie for row in process_table.table())
