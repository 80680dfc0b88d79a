"""What a failing test shows of the lab: who ran what, the logs of tasks that failed, the timeline's path and the status."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console, RenderableType

from airflow_celery_lab.cli import tables
from airflow_celery_lab.cluster.runs import Task
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.testing.lab import AirflowLab
from airflow_celery_lab.testing.run import LabRun, log_of

#: Runs, tasks and lines of a task's log that are shown at most.
RUNS, TASKS, LINES = 3, 5, 30
#: Columns of the tables.
WIDTH = 120
#: States of tasks whose logs are worth reading.
TELLING = ("failed", "up_for_retry", "running", "restarting")

Sections = Iterator[tuple[str, str]]


def sections(lab: AirflowLab, runs: Iterable[LabRun], folder: Path) -> Sections:
    """Yield the title and the text of each section; pages of timelines go into `folder`."""
    for run in list(runs)[-RUNS:]:
        yield from _of_run(lab, run, folder)
    try:
        now = lab.cluster.status()
        ready = len(now.processes) - len(now.not_ready)
        yield (
            "Airflow lab: status",
            f"{ready} of {len(now.processes)} processes are ready\n{_text(tables.status(replace(now, processes=now.not_ready)))}",
        )
    except LabError as error:
        yield "Airflow lab: status", str(error)


def _of_run(lab: AirflowLab, run: LabRun, folder: Path) -> Sections:
    title = f"Airflow lab: {run.dag_id} {run.run_id}"
    try:
        seen = run.now
        page = _draw(run, folder)
        yield title, f"{_text(tables.run(seen))}\n{lab.url}/dags/{run.dag_id}/runs/{run.run_id}\ntimeline: {page}"
        for task in [task for task in seen.tasks if task.state in TELLING][:TASKS]:
            yield f"Airflow lab: log of {task.name}, try {task.try_number}, the last {LINES} lines", _log(run, task)
    except (LabError, OSError) as error:  # The lab may be what has failed; then its status tells.
        yield title, str(error)


def _draw(run: LabRun, folder: Path) -> Path:
    from airflow_celery_lab.timeline.page import page

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^\w.+-]", "_", f"{run.dag_id}.{run.run_id}") + ".html")
    path.write_text(page(run.timeline()), encoding="utf-8")
    return path


def _log(run: LabRun, task: Task) -> str:
    try:
        return "\n".join(log_of(run.api, run, task)[-LINES:]) or "nothing"
    except LabError as error:
        return str(error)


def _text(drawn: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip()
