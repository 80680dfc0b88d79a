"""The lab's Redis: its private configuration, and the program to run with it."""

from __future__ import annotations

import os
from pathlib import Path

from celery_lab import servers
from celery_lab.credentials import Credentials, make_private_folder
from celery_lab.settings import PROJECT, Settings


def prepare(settings: Settings, credentials: Credentials) -> list[str]:
    """Write the configuration, which holds the password, and return the server's command.

    Raises:
        LabError: there is no server program, or the state folder cannot be written to.

    """
    folder = settings.home / "redis"
    make_private_folder(folder)
    program = servers.redis_program(settings)
    path = folder / "redis.conf"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(render(settings, credentials, folder))
    return [str(program), str(path)]


def render(settings: Settings, credentials: Credentials, folder: Path) -> str:
    """Return the configuration: the project's, then what belongs to this lab alone."""
    return "\n".join(
        [
            f"include {_quote(PROJECT / 'config' / 'redis.conf')}",
            f"bind {settings.bind}",
            f"port {settings.ports.redis}",
            f"dir {_quote(folder)}",
            f"requirepass {credentials.redis_password}",
            "",
        ]
    )


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
