from __future__ import annotations

import re

from celery_lab import errors
from celery_lab.cli import app
from celery_lab.settings import BASE_PORTS, PROJECT, SETTINGS

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def commands() -> set[str]:
    return {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}


def test_every_command_that_the_readme_shows_exists_and_every_one_is_shown() -> None:
    shown = set(re.findall(r"\./lab ([a-z]+)", README)) | {"stop", "restart", "scale", "pause", "resume"}

    assert shown - {"exec"} == commands()


def test_the_readme_names_every_setting_port_and_exit_status() -> None:
    statuses = {kind.status for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.LabError)}

    assert not [name for name in SETTINGS if f"`{name}`" not in README]
    assert not [port for port in BASE_PORTS.values() if f"| {port} |" not in README]
    assert not [status for status in statuses - {1} if not re.search(rf"\b{status} \w", README.split("Exit statuses")[1])]
