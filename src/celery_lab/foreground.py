"""`lab up`: the whole cluster in the foreground, under honcho.

Stays beside honcho for as long as it runs, so it is a small process without the command line's imports.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from celery_lab import launcher, registry, settings
from celery_lab.errors import AlreadyRunningError
from celery_lab.settings import PROJECT, Settings

#: Seconds between two looks; a signal is noticed by the next one.
POLL = 0.2
#: Seconds for honcho to end after its processes were told to, which takes them less than 5.
PATIENCE = 9.0


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run honcho with `arguments` for `honcho start` and return its exit status.

    Raises:
        AlreadyRunningError: another `up` of this lab is at work.

    """
    config = settings.load(environ)
    lock = (config.home / "up.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunningError(
            f"another `./lab up` of the lab in {config.home} is at work; use that one, or set LAB_HOME and LAB_PORT_OFFSET for a second lab."
        ) from None
    launcher.stopping(config.home).unlink(missing_ok=True)
    registry.forget_ends(config.home)
    variables = {**environ, launcher.STARTER: str(os.getpid())}
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    honcho = _start_honcho(arguments, variables)
    announcer = subprocess.Popen([sys.executable, "-m", "celery_lab", "wait", "--announce"], env=dict(environ), stdin=subprocess.DEVNULL)
    while honcho.poll() is None and not asked:
        time.sleep(POLL)
    announcer.kill()
    announcer.wait()
    if asked:
        _stop(config, honcho, signal.Signals(asked[0]))
        print(f"lab: stopped; its state is kept in {config.home}", file=sys.stderr)
        return 128 + asked[0]
    status = honcho.wait()
    _explain(config)
    return status if status >= 0 else 128 - status


def _start_honcho(arguments: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start honcho in a session of its own: Ctrl-C is for us.

    honcho 2.0 trips over a signal that comes before all of its processes have started: it dies in
    `Manager._killall`, and hangs. So it never gets one; it ends when its processes have.
    """
    # honcho's own reading of .env would be stronger than the environment; the launcher reads it instead.
    command = [sys.executable, "-m", "honcho", "-e", os.devnull, "-f", "Procfile", "start", *arguments]
    return subprocess.Popen(command, cwd=PROJECT, env=dict(variables), stdin=subprocess.DEVNULL, start_new_session=True)


def _stop(config: Settings, honcho: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Ask all processes to end, those too that have not started yet, and wait for honcho's end."""
    print(f"lab: {number.name} received, stopping", file=sys.stderr)
    note = launcher.stopping(config.home)
    note.parent.mkdir(exist_ok=True)
    note.touch()
    for record in registry.running(config.home).values():
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGTERM)
    try:
        honcho.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        honcho.kill()
        honcho.wait()


def _explain(config: Settings) -> None:
    """Say who ended first."""
    for name, status in list(registry.ends(config.home).items())[:1]:
        print(
            f"lab: {name} ended first, with status {status}, and honcho stopped the others; its last words stand above, after `{name}`.",
            file=sys.stderr,
        )
