"""The lab in the background: supervisord, its configuration, and what it is asked to do."""

from __future__ import annotations

import configparser
import hashlib
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from honcho.environ import ProcessParams
from honcho.export.supervisord import Export
from supervisor.xmlrpc import SupervisorTransport

from celery_lab import identity, processes
from celery_lab.credentials import make_private_folder
from celery_lab.errors import NotReadyError, NotRunningError, ProcfileError
from celery_lab.procfile import Line, service_of
from celery_lab.services import Service
from celery_lab.settings import PROJECT, Settings
from celery_lab.wait import wait_until

TEMPLATES = PROJECT / "config" / "supervisord"
#: Bytes of a Unix socket's path on Linux and macOS (103), less what supervisord appends while it binds.
SOCKET_PATH = 90
#: Bytes of a log's end that are looked at.
TAIL = 20_000
PREFIX = "program:"
#: Folder of the processes' logs in the state folder; config/supervisord/supervisord.conf names it, too.
LOGS = "processes"

Programs = Mapping[str, str]  #: the command of each process, by its name


@dataclass(frozen=True)
class Plan:
    """What has to happen to make the running processes the wanted ones."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def wanted(lines: Iterable[Line], counts: Mapping[str, int] | None = None) -> Programs:
    """Return the processes that the Procfile names, some lines of it several times."""
    counts = counts or {}
    return {identity.instance_name(line.name, number): line.command for line in lines for number in range(1, counts.get(line.name, 1) + 1)}


def scaled(current: Programs, lines: Iterable[Line], name: str, count: int) -> Programs:
    """Return `current` with `count` instances of the Procfile's line `name`, all others as they are.

    Raises:
        ProcfileError: the Procfile has no such line.

    """
    by_name = {line.name: line for line in lines}
    if name not in by_name:
        raise ProcfileError(f"there is no process {name!r} to scale; the Procfile has {', '.join(by_name)}.")
    instances = wanted([by_name[name]], {name: count}) if count else {}
    before = list(itertools.takewhile(lambda other: not _is_instance(other, name, by_name), current))
    others = {other: command for other, command in current.items() if not _is_instance(other, name, by_name)}
    # The instances stand where the line stood.
    return {**{other: others.pop(other) for other in before}, **instances, **others}


def services(programs: Programs) -> dict[str, Service]:
    """Return the service behind each process."""
    return {name: service_of(command) for name, command in programs.items()}


def plan(current: Programs, target: Programs) -> Plan:
    """Return the difference, each part in the target's (or current) order."""
    return Plan(
        added=tuple(name for name in target if name not in current),
        changed=tuple(name for name in target if name in current and current[name] != target[name]),
        removed=tuple(name for name in current if name not in target),
    )


def parse(text: str) -> Programs:
    """Return the processes that a supervisord configuration of ours names, with the Procfile's commands."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    programs = {section.removeprefix(PREFIX): parser[section]["command"] for section in parser.sections() if section.startswith(PREFIX)}
    return {name: shlex.split(command.replace("%%", "%"))[-1].removeprefix("exec ") for name, command in programs.items()}


class Supervisor:
    """supervisord of one lab."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.configuration = settings.home / "supervisord.conf"
        self.logs = settings.home / LOGS

    @property
    def socket(self) -> Path:
        """Where supervisord listens: in the state folder, or in a short path of the user's own."""
        path = self._settings.home / "supervisor.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH:
            return path
        digest = hashlib.sha256(os.fsencode(self._settings.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"lab-{os.getuid()}-{digest}" / "supervisor.sock"

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
    def programs(self) -> Programs:
        """The processes that it was last told to run."""
        return parse(self._active_configuration().read_text(encoding="utf-8"))

    def start(self, programs: Programs, environ: Mapping[str, str]) -> None:
        """Start supervisord in the background with `programs`.

        Raises:
            NotReadyError: it did not start.

        """
        make_private_folder(self.logs)
        make_private_folder(self.socket.parent)
        self._write(programs, self.configuration)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration)]
        started = subprocess.run(command, cwd=PROJECT, env=dict(environ), capture_output=True, text=True, check=False)
        if started.returncode:
            words = (started.stderr or started.stdout).strip().splitlines()[-1:] or ["no reason given"]
            raise NotReadyError(f"supervisord did not start: {words[0]}; see {self._settings.home / 'supervisord.log'}.")
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
        infos: list[dict[str, Any]] = self._call("getAllProcessInfo")
        return next((int(info["pid"]) for info in infos if info["name"] == name), 0)

    def launch(self, names: Iterable[str]) -> None:
        """Start those of `names` that do not run."""
        for name in names:
            with suppress(Fault):  # It was started by somebody else just now.
                self._call("startProcess", name, False)  # noqa: FBT003  # do not wait: XML-RPC has no keywords

    def stop(self, names: Iterable[str], on_wait: Callable[[str], None] = lambda _reason: None, timeout: float | None = None) -> list[str]:
        """Stop `names`, all at once, each in its own way; return those that have not ended after `timeout` seconds.

        The launchers kill what takes longer than LAB_STOP_TIMEOUT, so without a `timeout` none is left.
        """
        states = self.states()
        pending = [name for name in names if states[name] in ("STARTING", "RUNNING", "BACKOFF", "STOPPING")]
        for name in pending:
            with suppress(Fault):
                self._call("stopProcess", name, False)  # noqa: FBT003  # as above
        deadline = time.monotonic() + (timeout if timeout is not None else self._settings.stop_timeout + 30)
        while pending and time.monotonic() < deadline:
            on_wait(", ".join(pending))
            time.sleep(0.1)
            states = self.states()
            pending = [name for name in pending if name in states and states[name] in ("RUNNING", "STARTING", "STOPPING")]
        return pending

    def apply(self, programs: Programs, on_wait: Callable[[str], None] = lambda _reason: None) -> Plan:
        """Make `programs` the running ones, touching only what differs, and return what was done."""
        active = self._active_configuration()
        difference = plan(parse(active.read_text(encoding="utf-8")), programs)
        if not difference:
            return difference
        self._write(programs, active)
        self._call("reloadConfig")
        ending = [*difference.removed, *difference.changed]
        known = self.states()
        self.stop([name for name in ending if name in known], on_wait)
        for name in ending:
            with suppress(Fault):
                self._call("removeProcessGroup", name)
        for name in (*difference.changed, *difference.added):
            self._call("addProcessGroup", name)
        return difference

    def shut_down(self) -> None:
        """End supervisord, whose processes have ended."""
        pid = self.pid
        self._call("shutdown")
        wait_until(lambda: "it still runs" if _runs(pid) else None, 30, "the end of supervisord")

    def tail(self, name: str, lines: int) -> list[str]:
        """Return the last lines of a process's log."""
        with suppress(OSError), self.log(name).open("rb") as file:
            file.seek(max(0, self.log(name).stat().st_size - TAIL))
            return file.read().decode(errors="replace").splitlines()[-lines:]
        return []

    def log(self, name: str) -> Path:
        """Return where the output of a process goes."""
        return self.logs / f"{name}.log"

    def _active_configuration(self) -> Path:
        """Return the file that supervisord reads: ours, or the project's when it was started by hand."""
        import psutil

        with suppress(NotRunningError, psutil.Error):
            if str(self.configuration) not in psutil.Process(self.pid).cmdline():
                return PROJECT / "supervisord.conf"
        return self.configuration

    def _write(self, programs: Programs, path: Path) -> None:
        path.write_text(self.render(programs, by_hand=path != self.configuration), encoding="utf-8")

    def render(self, programs: Programs, *, by_hand: bool = False) -> str:
        """Return the configuration for `programs`; `by_hand` is the one that is committed."""
        if by_hand:
            return _render(programs, "%(here)s/.lab")
        text = _render(programs, _escape(self._settings.home)).replace("%(here)s", _escape(PROJECT))
        return text.replace(_escape(self._settings.home / "supervisor.sock"), _escape(self.socket))

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            with ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, HTTPException) as error:
            raise NotRunningError(
                f"the lab in {self._settings.home} does not run in the background; start it with `./lab up -d`."
            ) from error


def _render(programs: Programs, home: str) -> str:
    """Do what `honcho export` does, for instances that have their names already."""
    processes = [ProcessParams(f"{name}.1", command, quiet=False, env={}) for name, command in programs.items()]
    context = {"app": "supervisord", "log": home, "processes": processes}
    return str(Export(str(TEMPLATES)).render(processes, context)[0].content)


def _escape(path: Path) -> str:
    return str(path).replace("%", "%%")


def _is_instance(name: str, line: str, lines: Mapping[str, Line]) -> bool:
    base, _, number = name.rpartition("-")
    return name == line or (base == line and number.isdecimal() and name not in lines)


def _runs(pid: int) -> bool:
    """Return whether `pid` lives; in a container nobody may collect what has ended."""
    return any(row.pid == pid and not row.zombie for row in processes.table())
