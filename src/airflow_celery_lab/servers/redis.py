"""The lab's Redis: its private configuration, and the program to run with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from airflow_celery_lab.configuration import exposure, files, roots
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.exposure import WORKER, Exposure
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.servers import executables

#: What the workers of other machines may do: what kombu and Celery do, on all keys. Nothing that administrates, looks at
#: other clients, or empties a database.
WORKER_RULES = (
    *("~*", "&*", "+@read", "+@write", "+@pubsub", "+@transaction", "+@connection"),
    # kombu keeps two workers from giving lost messages back at once with a lock that is a script.
    *("+eval", "+evalsha", "+script|load"),
    *("-@admin", "-@dangerous"),
)


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
            *([f"user {WORKER} {' '.join(worker_rules(exposed))}"] if (exposed := exposure.read(lab.state)) else []),
            "",
        ]
    )


def worker_rules(exposed: Exposure) -> list[str]:
    """Return the rules of the user that workers of other machines log in as, with a hash of its password."""
    return ["on", f"#{hashlib.sha256(exposed.redis_password.encode()).hexdigest()}", *WORKER_RULES]


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
