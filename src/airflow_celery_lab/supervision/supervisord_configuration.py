"""supervisord's configuration: made from the wanted processes with the one template, and read back."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

from airflow_celery_lab.configuration import roots, shell
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.configuration.state import State

TEMPLATES = roots.DATA / "config" / "supervisord"
#: Name of the file that a project may hold, for plain `supervisord`.
NAME = "supervisord.conf"
#: supervisord's word for the folder of the file that it reads.
HERE = "%(here)s"
PREFIX = "program:"


def for_project(processes: Processes) -> str:
    """Return what `honcho export` makes of the Procfile: paths are relative to the file, the state is `.lab`."""
    return _render(processes, f"{HERE}/.lab")


def for_lab(processes: Processes, project: Path, state: State, socket: Path) -> str:
    """Return the configuration of one lab, wherever its state and its socket are."""
    text = _render(processes, _escape(state.home)).replace(HERE, _escape(project))
    return text.replace(_escape(state.supervisord_socket), _escape(socket))


def is_ours(text: str) -> bool:
    """Return whether `text` is a configuration that was made here."""
    return text.startswith("; Rendered from the Procfile")


def parse(text: str) -> Processes:
    """Return the processes that a configuration of ours names, with the Procfile's commands."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    commands = {section.removeprefix(PREFIX): parser[section]["command"] for section in parser.sections() if section.startswith(PREFIX)}
    return {name: shell.canonical(shlex.split(command.replace("%%", "%"))[-1]) for name, command in commands.items()}


def _render(processes: Processes, home: str) -> str:
    """Do what `honcho export` does, for instances that have their names already, and for all lines that a shell takes."""
    # With its templates' language, which most commands need not wait for.
    from honcho.environ import ProcessParams
    from honcho.export.supervisord import Export

    named = [ProcessParams(f"{name}.1", shell.executable(command), quiet=False, env={}) for name, command in processes.items()]
    context = {"app": "supervisord", "log": home, "processes": named, "executable": True}
    return str(Export(str(TEMPLATES)).render(named, context)[0].content)


def _escape(path: Path) -> str:
    return str(path).replace("%", "%%")
