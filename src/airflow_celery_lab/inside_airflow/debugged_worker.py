"""A worker whose tasks wait for an editor before they run: `debug` starts it.

What waits and stands still at breakpoints is the task's own process. Its supervisor, another one, goes on sending heartbeats.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.listeners import hookimpl

from airflow_celery_lab.configuration import debugger, settings
from airflow_celery_lab.wait import wait_until

#: Seconds in which the debugger of the task before this one lets go of the port.
PATIENCE = 15.0


class Debugger:
    """What Airflow tells in a task's process that a task is about to run."""

    @hookimpl
    def on_task_instance_running(self, task_instance: Any) -> None:
        """Wait until an editor has attached and set its breakpoints."""
        import debugpy

        port = int(os.environ[debugger.VARIABLE])
        state = settings.load(os.environ).state

        def listen() -> str | None:
            try:
                debugpy.listen(("127.0.0.1", port))
            except RuntimeError as error:  # debugpy's own, for a port that is taken too.
                return str(error)
            return None

        wait_until(listen, PATIENCE, f"the debugger's port {port}", interval=0.5)
        index = task_instance.map_index
        debugger.note_waiting(state, task_instance.task_id if index is None or index < 0 else f"{task_instance.task_id}[{index}]")
        debugpy.wait_for_client()
        debugger.note_attached(state)


def prepare(**_: Any) -> None:
    """Let all tasks of this worker wait, before it forks."""
    try:
        from airflow.sdk.listener import get_listener_manager
    except ModuleNotFoundError:  # It stands elsewhere in Airflow 3.1.
        from airflow.listeners.listener import get_listener_manager  # type: ignore[assignment]  # the same of its kind

    get_listener_manager().add_listener(Debugger())  # type: ignore[no-untyped-call]  # Airflow's own is untyped
