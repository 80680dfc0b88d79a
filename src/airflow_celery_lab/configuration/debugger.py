"""What `debug` asks the lab's scheduler and a worker of its own to do: which tasks run there, and where they listen."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import NamedTuple

from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.state import State

#: Of the worker that runs the tasks, and of its queue.
NAME = QUEUE = "debugger"
#: The debug adapter's port, in the environment of that worker.
VARIABLE = "LAB_DEBUG_PORT"
#: Where debugpy listens by default, in the editors' examples too; the lab's port offset is added.
PORT = 5678


class Session(NamedTuple):
    """What is debugged."""

    dag_id: str
    run_id: str
    task_id: str | None  #: None for all tasks of the run

    def takes(self, dag_id: str, run_id: str, task_id: str) -> bool:
        """Return whether a task runs on the debugger's worker."""
        return (dag_id, run_id) == (self.dag_id, self.run_id) and self.task_id in (None, task_id)


def begin(state: State, session: Session) -> None:
    """Let the scheduler send the session's tasks to the debugger's worker."""
    files.write(state.debug_session, json.dumps(session._asdict()))


def session(state: State) -> Session | None:
    """Return what is debugged now, None for nothing."""
    with suppress(OSError, ValueError, TypeError):
        return Session(**json.loads(state.debug_session.read_text(encoding="utf-8")))
    return None


def end(state: State) -> None:
    """Forget the session."""
    state.debug_session.unlink(missing_ok=True)
    state.debug_task.unlink(missing_ok=True)


def note_waiting(state: State, task: str) -> None:
    """Write down that a task waits for an editor."""
    files.write(state.debug_task, task)


def note_attached(state: State) -> None:
    """Write down that no task waits for an editor."""
    state.debug_task.unlink(missing_ok=True)


def waiting(state: State) -> str:
    """Return the name of the task that waits for an editor, "" for none."""
    with suppress(OSError):
        return state.debug_task.read_text(encoding="utf-8")
    return ""
