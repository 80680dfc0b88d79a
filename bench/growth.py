"""`bench/grow`: how the lab grows with workers, tasks and DAG files; one of the three at a time, the others as they are shipped."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import psutil
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.testing.pictures import draw
from airflow_celery_lab.testing.throwaway import ThrowawayLab
from bench import figures, report
from bench.contestants import DAGS

#: What is varied, and how many tasks a run has meanwhile.
WORKERS, TASKS, FILES = (1, 2, 4, 8), (10, 100, 1000), (1, 10, 100)
USUAL_TASKS = 100
#: The DAGs that are run, which are more files than those counted.
FAN_OUT, CHAIN = "fan_out", "noop_chain"
#: Seconds for one run, and in which a lab is watched at rest.
LIMIT, REST = 600.0, 20.0
#: Columns of the picture, and cells of its longest bars.
WIDTH, BAR = 90, 22


class Growth(NamedTuple):
    """One row."""

    what: str  #: is varied
    number: int  #: of it
    rate: float = 0.0  #: empty tasks a second, in one run, warm
    lag: float = 0.0  #: seconds from a task's end until the next one of its chain is queued, while that run goes on
    memory: float = 0.0  #: MB, each shared page divided among its users, at the end of the run
    rest: float = 0.0  #: % of a core, with nothing to do
    failure: str = ""  #: why the lab could not be measured with it


def main(
    file: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Where to draw them, as SVG.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print the table for a page.")] = False,
) -> None:
    """Measure the lab with 1 to 8 workers, 10 to 1000 tasks in a run and 1 to 100 DAG files more."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found: list[Growth] = []
    for files in FILES:
        for row in measure(files):
            found.append(row)
            print(row, flush=True)
            if file:
                file.write_text(json.dumps({"machine": report.machine(), "rows": [one._asdict() for one in found]}, indent=2))
    if picture:
        draw(picture, [bars(found)], "bench/grow", WIDTH)
    if markdown:
        print(report.as_markdown(table(found)))
    else:
        Console().print(table(found))


def table(rows: list[Growth]) -> Table:
    """Return a line a row, those of one kind together."""
    drawn = Table("varied", "number", "tasks/s", "scheduler lag s", "memory MB", "CPU at rest %", box=None)
    for row in sorted(rows, key=lambda row: (row.what, row.number)):
        measured = (f"{row.rate:.1f}", f"{row.lag:.2f}", f"{row.memory:.0f}", f"{row.rest:.1f}")
        drawn.add_row(row.what, str(row.number), *((row.failure,) if row.failure else measured))
    return drawn


def bars(rows: list[Growth]) -> Table:
    """Return the same rows as a picture: for each kind, bars of the tasks a second and of the memory."""
    drawn = Table("", "", "tasks/s", "", "memory MB", "", box=None, pad_edge=False)
    rate, memory = max(row.rate for row in rows) or 1, max(row.memory for row in rows) or 1
    before = ""
    for row in sorted(rows, key=lambda row: (row.what, row.number)):
        if before not in {"", row.what}:
            drawn.add_row()
        cells = (
            *(f"{row.rate:.1f}", Text("█" * round(row.rate / rate * BAR), "green")),
            *(f"{row.memory:.0f}", Text("█" * round(row.memory / memory * BAR), "blue")),
        )
        drawn.add_row(
            row.what if row.what != before else "",
            str(row.number),
            *((row.failure,) if row.failure else cells),
        )
        before = row.what
    return drawn


def measure(files: int) -> Iterator[Growth]:
    """Measure a lab with so many DAG files beside those that are run; the one with the fewest also with more workers and other runs."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        Path(folder).chmod(0o755)
        for name in (CHAIN, FAN_OUT):
            shutil.copy(DAGS / f"{name}.py", folder)
        text = (DAGS / f"{CHAIN}.py").read_text(encoding="utf-8")
        for number in range(files):
            (Path(folder) / f"other_{number}.py").write_text(text.replace(CHAIN, f"other_{number}"), encoding="utf-8")
        lab = ThrowawayLab(Path(folder))
        try:
            lab.command("up", "-d", timeout=LIMIT)
            lab.look()
            yield _row(lab, "DAG files", files, USUAL_TASKS)
            if files == FILES[0]:
                yield from (_row(lab, "tasks in a run", tasks, tasks) for tasks in TASKS)
                for workers in WORKERS:
                    lab.command("scale", f"worker-default={workers}", timeout=LIMIT)
                    yield _row(lab, "workers", workers, USUAL_TASKS)
        finally:
            lab.destroy()


def _row(lab: ThrowawayLab, what: str, number: int, tasks: int) -> Growth:
    """Return what was measured; where the lab does not bear it, the row says so, and the next one is tried."""
    cluster = lab.cluster
    try:
        _burst(cluster, USUAL_TASKS)  # Warm: the first run after a start or with a new worker takes longer.
        with ThreadPoolExecutor() as beside:
            chain = beside.submit(cluster.run, CHAIN, timeout=LIMIT)
            rate = tasks / _burst(cluster, tasks)
            memory = figures.memory(_processes(lab))
            lag = _lag(chain.result())
        return Growth(what, number, rate, lag, memory, figures.rest(lambda: _processes(lab), REST))
    except LabError as error:
        return Growth(what, number, failure=str(error))


def _burst(cluster: Cluster, tasks: int) -> float:
    """Run empty tasks; return the seconds from the first that could run until the last has ended."""
    conf: dict[str, Any] = {"tasks": tasks, "seconds": 0}
    run = cluster.run(FAN_OUT, conf, timeout=LIMIT)
    work = [task for task in run.tasks if task.map_index >= 0 and task.state == "success"]
    if len(work) < tasks:
        raise LabError(f"the run ended as {run.state}, with {len(work)} of {tasks} tasks")
    ends = [moment(task.end) or 0.0 for task in work]
    return max(ends) - min(moment(task.start) or 0.0 for task in work)


def _lag(run: Run) -> float:
    tasks = sorted(run.tasks, key=lambda task: task.task_id)
    return median((moment(after.queued) or 0.0) - (moment(before.end) or 0.0) for before, after in pairwise(tasks))


def _processes(lab: ThrowawayLab) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in lab.look() if psutil.pid_exists(pid)]


if __name__ == "__main__":
    typer.run(main)
