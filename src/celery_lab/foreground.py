"""`lab up`: the whole cluster in the foreground, under honcho.

Stays beside honcho for as long as it runs, so it is a small process without the command line's imports.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from celery_lab import launcher, settings
from celery_lab.errors import AlreadyRunningError
from celery_lab.settings import PROJECT, Settings


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
    launcher.first_end(config.home).unlink(missing_ok=True)
    variables = {**environ, launcher.STARTER: str(os.getpid())}
    # honcho's own reading of .env would be stronger than the environment; the launcher reads it instead.
    honcho = subprocess.Popen(
        [sys.executable, "-m", "honcho", "-e", os.devnull, "-f", "Procfile", "start", *arguments], cwd=PROJECT, env=variables
    )
    announcer = subprocess.Popen([sys.executable, "-m", "celery_lab", "wait", "--announce"], env=dict(environ), stdin=subprocess.DEVNULL)
    # Ctrl-C reaches honcho by itself, as it is in the terminal's foreground too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: honcho.terminate())
    status = honcho.wait()
    announcer.kill()
    announcer.wait()
    _explain(config)
    return status if status >= 0 else 128 - status


def _explain(config: Settings) -> None:
    """Say who ended first, when it was not the user who ended the lab."""
    cause: Path = launcher.first_end(config.home)
    if cause.exists():
        name, _, code = cause.read_text().partition(" ")
        print(
            f"lab: {name} ended first, with status {code.strip()}, and honcho stopped the others; its last words stand above, after `{name}`.",
            file=sys.stderr,
        )
        cause.unlink()
    print(f"lab: stopped; its state is kept in {config.home}", file=sys.stderr)
