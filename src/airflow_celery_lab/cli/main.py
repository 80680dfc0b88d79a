"""The way into the command line: all commands, and what becomes of their end."""

from __future__ import annotations

import os
import sys

from airflow_celery_lab import command
from airflow_celery_lab.cli import (
    authoring,
    autoscaling,
    breaking,
    comparing,
    drawing,
    experimenting,
    exposing,
    joining,
    lifecycle,
    linking,
    looking,
    project,
    running,
    tour,
)
from airflow_celery_lab.cli.app import app
from airflow_celery_lab.errors import NOBODY_READS

# Commands have registered while their modules were imported, in the order of the alphabet; `--help` shows them in this one.
GROUPS = [
    module.__name__
    for module in (
        lifecycle,
        autoscaling,
        exposing,
        joining,
        looking,
        running,
        comparing,
        authoring,
        drawing,
        breaking,
        linking,
        experimenting,
        tour,
        project,
    )
]
app.registered_commands.sort(key=lambda registered: GROUPS.index(registered.callback.__module__) if registered.callback else 0)


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Raises:
        LabError: what the user can fix.

    """
    try:
        app(arguments, prog_name=command.typed())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:  # As with `status | head`: the reader has ended.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return 0
