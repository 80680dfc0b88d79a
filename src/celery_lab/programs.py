"""How each service is started: what must be there first, and the words of the real program."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from celery_lab import postgres, probes, redis_server, schema
from celery_lab.credentials import ADMIN, Credentials, make_private_folder
from celery_lab.environment import PASSWORDS_FILE
from celery_lab.services import Service
from celery_lab.settings import Settings
from celery_lab.wait import wait_until


def prepare(
    service: Service,
    command: Sequence[str],
    name: str,
    settings: Settings,
    credentials: Credentials,
    variables: dict[str, str],
    on_wait: Callable[[str], None],
) -> list[str]:
    """Make everything ready that the service needs and return the program to run, with its arguments.

    Raises:
        LabError: it cannot be made ready, or not within `settings.start_timeout` seconds.

    """
    for folder in ("airflow", "logs", "flower"):
        make_private_folder(settings.home / folder)
    if service.kind == "postgres":
        return postgres.prepare(settings, credentials)
    if service.kind == "redis":
        return redis_server.prepare(settings, credentials)
    _wait_for_needs(service, settings, credentials, variables, on_wait)
    if service.kind == "api-server":
        write_passwords(settings.home, credentials)
    return _python_program([*command, *_own_options(service, command, name)])


def write_passwords(home: Path, credentials: Credentials) -> None:
    """Leave the admin's password where Airflow looks for it."""
    path = home / PASSWORDS_FILE
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump({ADMIN: credentials.admin_password}, file)


def _wait_for_needs(
    service: Service, settings: Settings, credentials: Credentials, variables: dict[str, str], on_wait: Callable[[str], None]
) -> None:
    needs: list[tuple[str, Callable[[], str | None]]] = []
    if "redis" in service.needs:
        needs.append(("redis", lambda: probes.redis(settings, credentials)))
    if "postgres" in service.needs:
        needs.append(("postgres", lambda: probes.postgres(settings, credentials)))
    if "schema" in service.needs:
        needs.append(("the database schema", lambda: schema.probe(settings, credentials, variables)))
    for what, probe in needs:
        wait_until(probe, settings.start_timeout, what, advice="see its log, or `./lab status`", on_wait=on_wait)


def _own_options(service: Service, command: Sequence[str], name: str) -> list[str]:
    """Return the options that give a process its identity and keep it off a port it does not need."""
    options: dict[str, list[str]] = {
        # One log server a machine is all that there is port for, and it listens on all interfaces.
        # The logs lie on the api-server's own disk (celery_lab.task_logs).
        "worker": ["--celery-hostname", name, "--skip-serve-logs"],
        "triggerer": ["--skip-serve-logs"],
    }
    given = {word.partition("=")[0] for word in command} | ({"--celery-hostname"} if "-H" in command else set())
    wanted = options.get(service.kind, [])
    if "--celery-hostname" in given:
        wanted = [word for word in wanted if word not in ("--celery-hostname", name)]
    return [word for word in wanted if word not in given]


def _python_program(command: Sequence[str]) -> list[str]:
    """Return the command; `airflow` and `celery` run as modules, whatever the length of their path."""
    if command[0] in ("airflow", "celery"):
        return [sys.executable, "-m", *command]
    return list(command)
