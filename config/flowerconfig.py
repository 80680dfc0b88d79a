"""Flower's configuration. Address, port, password and the history's file come from the lab's environment."""

import json

# Keeps the history of tasks over a restart, and a crash loses at most these milliseconds of it.
persistent = True
state_save_interval = 5_000

# A worker that was scaled away disappears from the list after these seconds.
purge_offline_workers = 60


def format_task(task):
    """Show an Airflow task under its dag and task name; Celery knows it as `execute_workload` with a JSON blob."""
    try:
        workload = _workload(task.args)
        instance = workload["ti"]
    except (KeyError, TypeError, ValueError):
        return task
    index = instance.get("map_index", -1)
    task.name = f"{instance['dag_id']}.{instance['task_id']}" + (f"[{index}]" if index >= 0 else "")
    task.args = f"run {instance['run_id']}, try {instance['try_number']}"
    task.kwargs = "{}"
    return task


def _workload(args):
    """Return the workload in a task's arguments, which Flower holds as text like `('{...}',)`."""
    text = args if isinstance(args, str) else repr(args)
    start, end = text.index("{"), text.rindex("}") + 1
    return json.loads(text[start:end])
