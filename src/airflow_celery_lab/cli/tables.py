"""Tables and progress for people. Everything here also exists as JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.experiments.trials import Row, Trial

#: Columns of a table that goes into a file or a pipe, where nothing needs to be folded.
UNFOLDED = 200
console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else UNFOLDED)

COLOURS = {
    "success": "green",
    "failed": "red",
    "running": "cyan",
    "queued": "yellow",
    "up_for_retry": "yellow",
    "deferred": "magenta",
    "upstream_failed": "red",
}


def status(now: Status) -> Group:
    """Return the tables of `lab status`."""
    processes = _table("PROCESS", "STATE", "PID", ">MEMORY", "READY")
    for process in now.processes:
        processes.add_row(
            process.name,
            process.state,
            str(process.pid or "-"),
            f"{process.memory_mb:.0f} MB" if process.memory_mb is not None else "-",
            Text("ready", "green") if process.ready else Text(process.reason, "yellow"),
        )
    workers = _table("WORKER", "QUEUES", ">SLOTS", ">RUNNING")
    for worker in now.workers:
        workers.add_row(worker.name, ",".join(worker.queues), str(worker.concurrency), str(worker.running))
    queues = _table("QUEUE", ">WAITING", "LISTENERS")
    for queue in now.queues:
        queues.add_row(queue.name, str(queue.waiting), ", ".join(queue.listeners) or Text("none", "red"))
    parts: list[Table | Text] = [processes]
    parts += [Text(), workers] if now.workers else []
    parts += [Text(), queues] if now.queues else []
    parts += [Text(f"warning: {warning}", "yellow") for warning in now.warnings]
    return Group(*parts)


def run(result: Run) -> Group:
    """Return the table of who ran what and when; times are seconds since the first task was queued."""
    table = _table("TASK", "STATE", ">TRY", "QUEUE", "WORKER", ">QUEUED", ">START", ">END", ">SECONDS")
    times = [_seconds(task.queued) for task in result.tasks if task.queued]
    zero = min(times) if times else 0.0
    for task in result.tasks:
        start, end = _seconds(task.start), _seconds(task.end)
        table.add_row(
            task.name,
            Text(task.state or "none", COLOURS.get(task.state or "", "")),
            str(task.try_number),
            task.queue or "-",
            task.worker or "-",
            *(_relative(moment, zero) for moment in (_seconds(task.queued), start, end)),
            f"{end - start:.1f}" if start and end else "-",
        )
    reasons = [Text(f"{name}: {reason}", "yellow") for name, reason in result.reasons.items()]
    return Group(table, *reasons, Text(f"{result.dag_id} {result.run_id}: {result.state}", COLOURS.get(result.state, "")))


def trial(done: Trial) -> str:
    """Return one line about one trial."""
    balance = done.balance
    time = f"ready after {done.recovered:.1f} s" if done.recovered is not None else "never ready again"
    again = f", cut off ones again after {', '.join(f'{seconds:.1f}' for seconds in done.again)} s" if done.again else ""
    lost = "".join(f"; task {task}: {reason}" for task, reason in balance.lost.items())
    return f"{done.fault}: {time}, run {done.state}, {len(balance.lost)} of {balance.tasks} tasks lost, {balance.repeated} repeated{again}{lost}"


def rows(summary: Sequence[Row]) -> Table:
    """Return the table of `lab experiment`."""
    table = _table("FAULT", ">TRIALS", ">RECOVERED", ">MEDIAN S", ">MAX S", ">TASKS", ">LOST", ">REPEATED", ">AGAIN", ">MEDIAN S", ">MAX S")
    for row in summary:
        table.add_row(
            row.fault,
            f"{row.trials}",
            f"{row.recovered}",
            _figure(row.median),
            _figure(row.maximum),
            f"{row.tasks}",
            f"{row.lost}",
            f"{row.repeated}",
            f"{row.again}",
            _figure(row.again_median),
            _figure(row.again_maximum),
        )
    return table


def _figure(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds}"


def progress(result: Run) -> str:
    """Return one line about the progress of a run."""
    counts = Counter(task.state or "none" for task in result.tasks)
    return f"{result.state}: " + ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return table


def _seconds(timestamp: str | None) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp() if timestamp else 0.0


def _relative(moment: float, zero: float) -> str:
    return f"{moment - zero:.1f}" if moment else "-"
