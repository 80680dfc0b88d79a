"""What a Celery message of Airflow's is about."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def describe(body: Sequence[Any]) -> str:
    """Return `dag.task[index] run RUN try N` for the body of a message, whose first argument is Airflow's JSON.

    Nothing else of it is in the answer: it holds a token that lets its bearer act as the task.
    """
    try:
        task: Mapping[str, Any] = json.loads(body[0][0])["ti"]
        index = f"[{task['map_index']}]" if task["map_index"] >= 0 else ""
        return f"{task['dag_id']}.{task['task_id']}{index} run {task['run_id']} try {task['try_number']}"
    except (KeyError, IndexError, TypeError, ValueError):
        return "a workload that is no task"
