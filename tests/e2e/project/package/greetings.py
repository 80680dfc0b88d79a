"""A package with a plugin, whose listener writes down which tasks it has heard of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

HEARD = Path(__file__).with_name("greetings.heard")


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:  # noqa: ARG001  # Airflow's own signature
    """Write it down."""
    with HEARD.open("a") as file:
        file.write(f"{task_instance.task_id}\n")


class Greetings(AirflowPlugin):
    """Registers the listener."""

    name = "greetings"
    listeners = [sys.modules[__name__]]  # noqa: RUF012  # Airflow's own shape
