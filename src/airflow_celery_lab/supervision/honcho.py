"""The lab in the foreground: honcho, and what ends it.

Stays beside honcho for as long as it runs, so it is a small process without the command line's imports.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import demand, environment, files, links, procfile
from airflow_celery_lab.configuration import lab as labs
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import AlreadyRunningError
from airflow_celery_lab.launcher import launcher, registry

#: Seconds between two looks; a signal is noticed by the next one.
POLL = 0.2
#: Seconds for honcho to end after its processes were told to, which takes them less than 5.
PATIENCE = 9.0

Say = Callable[[str], None]


def run(arguments: list[str], environ: Mapping[str, str], say: Say) -> int:
    """Run honcho with `arguments` for `honcho start`, and return its exit status.

    Raises:
        AlreadyRunningError: another `up` of this lab runs.

    """
    lab = labs.load(environ)
    lock = lab.state.foreground_lock.open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunningError(
            f"another `{typed()} up` of the lab in {lab.state.home} runs already; use that one, or set LAB_HOME and LAB_PORT_OFFSET for a second lab.",
            path=lab.state.home,
        ) from None
    lab.state.stopping.unlink(missing_ok=True)
    registry.forget_ends(lab.state)
    links.forget(lab.state)  # Of a life in the background that has not ended by `down`.
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    _write_demand(lab, arguments, environ)
    honcho = _start_honcho(lab, arguments, environ)
    announcer = subprocess.Popen(
        [sys.executable, "-m", "airflow_celery_lab", "wait", "--announce"], env=dict(environ), stdin=subprocess.DEVNULL
    )
    while honcho.poll() is None and not asked:
        time.sleep(POLL)
    announcer.kill()
    announcer.wait()
    demand.forget(lab.state)
    if asked:
        say(f"lab: {signal.Signals(asked[0]).name} received, stopping")
        _stop(lab.state, honcho)
        say(f"lab: stopped; its state is kept in {lab.state.home}")
        return 128 + asked[0]
    status = honcho.wait()
    _explain(lab.state, say)
    return status if status >= 0 else 128 - status


def _start_honcho(lab: Lab, arguments: list[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start honcho in a session of its own: Ctrl-C is for us.

    honcho 2.0 trips over a signal that comes before all of its processes have started: it dies in
    `Manager._killall`, and hangs. So it never gets one; it ends when its processes have.
    """
    variables = {**environment.of_supervisor(lab, environ), launcher.STARTER: str(os.getpid())}
    # honcho's own reading of .env would be stronger than the environment; the launcher reads it instead.
    command = [sys.executable, "-m", "honcho", "-e", os.devnull, "-f", str(_procfile(lab, environ)), "start", *arguments]
    return subprocess.Popen(command, cwd=lab.settings.project, env=variables, stdin=subprocess.DEVNULL, start_new_session=True)


def _write_demand(lab: Lab, arguments: list[str], environ: Mapping[str, str]) -> None:
    """Write down what the processes ask for, given what `up` tells honcho: nothing, or `-c name=N,...`."""
    counts = {name: int(count) for name, _, count in (item.partition("=") for item in ",".join(arguments[1:]).split(",") if item)}
    processes = procfile.instances(procfile.of(lab.settings, environ), counts)
    demand.write(lab.state, demand.of(procfile.services_of(processes).values(), environment.sizes(lab, environ)))


def _procfile(lab: Lab, environ: Mapping[str, str]) -> Path:
    """Write the Procfile for honcho: the project's or the default one, with the variables of `.env` in its lines."""
    lines = procfile.of(lab.settings, environ)
    files.write(lab.state.procfile, "".join(f"{line.name}: {line.command}\n" for line in lines))
    return lab.state.procfile


def _stop(state: State, honcho: subprocess.Popen[bytes]) -> None:
    """Ask all processes to end, those too that have not started yet, and wait for honcho's end."""
    state.processes.mkdir(exist_ok=True)
    state.stopping.touch()
    for record in registry.running(state).values():
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
    try:
        honcho.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        honcho.kill()
        honcho.wait()


def _explain(state: State, say: Say) -> None:
    """Say who ended first."""
    for name, status in list(registry.ends(state).items())[:1]:
        say(f"lab: {name} ended first, with status {status}, and honcho stopped the others; its last words stand above, after `{name}`.")
