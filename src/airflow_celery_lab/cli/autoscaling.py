"""The command that lets workers come and go with the load."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import app
from airflow_celery_lab.configuration import ranges


@app.command()
def autoscale(
    wanted: Annotated[list[str], typer.Argument(metavar=f"{ranges.SHAPE}...", help="A worker's line, and how often it may run.")],
) -> None:
    """Let workers come and go with the load, until Ctrl-C; in a terminal beside a background lab, or in its Procfile."""
    ranges.parse(wanted)
    # It stays for long, and is a small process.
    os.execv(sys.executable, [sys.executable, "-m", "airflow_celery_lab", "autoscaler", *wanted])
