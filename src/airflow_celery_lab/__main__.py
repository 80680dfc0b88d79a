"""`python -m airflow_celery_lab` and `airflow-celery-lab`: the launcher's quick way in, and the command line's."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from airflow_celery_lab import command
from airflow_celery_lab.errors import INTERRUPTED, LabError


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    try:
        if arguments[:1] == ["exec"]:
            # Stands before every process: it must not pay for the command line's imports.
            from airflow_celery_lab.launcher import launcher

            return launcher.main(arguments[1:], os.environ)
        if arguments[:1] == ["forkserver"]:
            from airflow_celery_lab.inside_airflow import forkserver

            return forkserver.main(os.environ)
        if arguments[:1] == ["foreground"]:
            from airflow_celery_lab.supervision import honcho

            return honcho.run(arguments[1:], os.environ, _say)
        if arguments[:1] == ["autoscaler"]:
            from airflow_celery_lab.autoscale import autoscaler

            return autoscaler.main(arguments[1:], os.environ, lambda text: print(text, flush=True))
        if arguments[:1] == ["presence"]:
            from airflow_celery_lab.remote import presence

            return presence.main(os.environ, lambda text: print(text, flush=True))
        if arguments[:1] == ["carrier"]:
            from airflow_celery_lab.remote import carrier

            return carrier.main(os.environ, lambda text: print(text, flush=True))
        if arguments[:1] == ["gateway"]:
            from airflow_celery_lab.remote import gateway

            return gateway.main(os.environ, lambda text: print(text, flush=True))
        # Nothing that is imported is garbage: looking for some, at the end too, takes a fifth of the time of a short command.
        gc.set_threshold(100_000)
        atexit.register(gc.freeze)
        command.remember(sys.argv[0])
        from airflow_celery_lab.cli.main import main as command_line

        return command_line(arguments)
    except LabError as error:
        _say(f"lab: {error}")
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED


def script() -> int:
    """Run the console script `airflow-celery-lab`."""
    return main(sys.argv[1:])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(script())
