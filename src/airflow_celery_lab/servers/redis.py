"""The lab's Redis: its private configuration, and the program to run with it."""

from __future__ import annotations

from pathlib import Path

from airflow_celery_lab.configuration import files, roots
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.servers import executables


def prepare(lab: Lab) -> list[str]:
    """Write the configuration, which holds the password, and return the server's command.

    Raises:
        LabError: there is no server program, or the state folder cannot be written to.

    """
    make_private_folder(lab.state.redis)
    program = executables.redis_program(lab.settings)
    path = lab.state.redis_configuration
    files.write(path, render(lab))
    return [str(program), str(path)]


def render(lab: Lab) -> str:
    """Return the configuration: the package's, then what belongs to this lab alone."""
    return "\n".join(
        [
            f"include {_quote(roots.DATA / 'config' / 'redis.conf')}",
            f"bind {lab.settings.bind}",
            f"port {lab.settings.ports.redis}",
            f"dir {_quote(lab.state.redis)}",
            f"requirepass {lab.credentials.redis_password}",
            "",
        ]
    )


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
