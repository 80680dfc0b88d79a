"""Tables and progress for people. Everything here also exists as JSON."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.text import Text

from airflow_celery_lab.cli.columns import Column, Fitted, visible
from airflow_celery_lab.cluster.dag_files import DagFile
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.experiments.experiment import Experiment, Result
from airflow_celery_lab.experiments.trials import Fault, Row, Trial

#: Cells in a line that goes into a file or a pipe, where nothing needs to be left out: no line is as long.
UNCUT = 10_000
console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else UNCUT)

COLOURS = {
    "success": "green",
    "failed": "red",
    "running": "cyan",
    "queued": "yellow",
    "up_for_retry": "yellow",
    "deferred": "magenta",
    "upstream_failed": "red",
}


# Where there is little room, columns leave from 1 on.
PROCESSES = (
    Column("PROCESS"),
    Column("STATE", leaves=3),
    Column("PID", leaves=2),
    Column("MEMORY", leaves=1, right=True),
    Column("READY", sentence=True),
)
WORKERS = (Column("WORKER"), Column("QUEUES", names=True), Column("SLOTS", leaves=1, right=True), Column("RUNNING", leaves=2, right=True))
AUTOSCALED = (
    Column("AUTOSCALED"),
    Column("WANTED", leaves=2, right=True),
    Column("ACTUAL", right=True),
    Column("RANGE", leaves=1),
    Column("WHY", sentence=True),
)
LINKS = (Column("LINK TO"), Column("CONDITION", sentence=True))
QUEUES = (Column("QUEUE"), Column("WAITING", leaves=1, right=True), Column("LISTENERS", names=True))
TASKS = (
    Column("TASK"),
    Column("STATE"),
    Column("TRY", leaves=2, right=True),
    Column("QUEUE", leaves=5),
    Column("WORKER", leaves=7, cut=True),
    Column("WAITED", leaves=4, right=True),
    Column("START", leaves=3, right=True),
    Column("END", leaves=1, right=True),
    Column("SECONDS", leaves=6, right=True),
)
FILES = (
    Column("FILE"),
    Column("STATE"),
    Column("DAGS", leaves=3, names=True),
    Column("PARSED", leaves=2, right=True),
    Column("SECONDS", leaves=1, right=True),
)
FAULTS = (
    Column("FAULT"),
    Column("TRIALS", leaves=3, right=True),
    Column("RECOVERED", leaves=7, right=True),
    Column("READY S", leaves=4, right=True),
    Column("MAX S", leaves=1, right=True),
    Column("TASKS", leaves=5, right=True),
    Column("LOST", right=True),
    Column("REPEATED", right=True),
    Column("CUT OFF", leaves=6, right=True),
    Column("AGAIN S", leaves=8, right=True),
    Column("MAX S", leaves=2, right=True),
)
EXPERIMENTS = (Column("EXPERIMENT"), Column("TAKES", leaves=1, right=True), Column("QUESTION", sentence=True))
CHECKS = (Column("HOLDS"), Column("CLAIM", sentence=True), Column("MEASURED", leaves=1, sentence=True))
NUMBERS = (Column("NUMBER", right=True), Column("OF", sentence=True))


def status(now: Status) -> Group:
    """Return the tables of `lab status`."""
    processes = Fitted(*PROCESSES)
    for process in now.processes:
        processes.add(
            process.name,
            process.state,
            str(process.pid or "-"),
            f"{process.memory_mb:.0f} MB" if process.memory_mb is not None else "-",
            Text("ready", "green") if process.ready else Text(process.reason, "yellow"),
        )
    workers = Fitted(*WORKERS)
    for worker in now.workers:
        workers.add(worker.name, ", ".join(worker.queues), str(worker.concurrency), str(worker.running))
    autoscaled = Fitted(*AUTOSCALED)
    for line in now.autoscaled:
        autoscaled.add(line.line, str(line.wanted), str(line.actual), str(line.range), line.why)
    links = Fitted(*LINKS)
    for link in now.links:
        links.add(link.server, Text(link.condition, "red" if link.cut else "yellow" if link.delay else "green"))
    queues = Fitted(*QUEUES)
    for queue in now.queues:
        queues.add(queue.name, str(queue.waiting), ", ".join(queue.listeners) or Text("none", "red"))
    parts: list[Fitted | Text] = [processes] if now.processes else []
    parts += [Text(), workers] if now.workers else []
    parts += [Text(), autoscaled] if now.autoscaled else []
    parts += [Text(), links] if now.links else []
    parts += [Text(), queues] if now.queues else []
    if now.exposed:
        parts += [Text(), Text(f"exposed, with TLS: {'  '.join(now.exposed.urls.values())}")]
    parts += [Text(f"warning: {warning}", "yellow") for warning in now.warnings]
    return Group(*parts)


def run(result: Run) -> Group:
    """Return the table of who ran what and when; times are seconds since the run began."""
    table = Fitted(*TASKS)
    # A task that has ended is older than its run, when others of the run were cleared after that.
    zero = min(filter(None, (moment(result.start), *(moment(task.start) for task in result.tasks))), default=0.0)
    for task in result.tasks:
        start, end = moment(task.start), moment(task.end)
        table.add(
            task.name,
            Text(task.state or "none", COLOURS.get(task.state or "", "")),
            str(task.try_number),
            task.queue or "-",
            task.worker or "-",
            f"{task.waited:.1f}" if task.waited is not None else "-",
            *(_relative(when, zero) for when in (start, end)),
            f"{end - start:.1f}" if start and end else "-",
        )
    name = f"{result.dag_id} {result.run_id}: {result.state}"
    # A terminal that is too narrow for it breaks it, so that it can be copied as one word.
    return Group(table, *_reasons(result), Text(name, COLOURS.get(result.state, ""), no_wrap=True, overflow="ignore"))


def dag_files(found: Sequence[DagFile]) -> Group:
    """Return the table of `lab dags`, and below it why files cannot be read."""
    table = Fitted(*FILES)
    colours = {"live": "green", "changed": "yellow", "error": "red"}
    for file in found:
        table.add(
            file.name,
            Text(file.state, colours.get(file.state, "")),
            ", ".join(f"{dag.dag_id} (paused)" if dag.paused else dag.dag_id for dag in file.dags) or "-",
            f"{time.time() - file.parsed:.0f} s ago" if file.parsed else "-",
            f"{file.seconds:.2f}" if file.seconds is not None else "-",
        )
    return Group(table, *(Text(visible(f"{file.name} cannot be read: {file.error}"), "red") for file in found if file.error))


def trial(done: Trial) -> str:
    """Return one line about one trial."""
    balance = done.balance
    time = f"ready after {done.recovered:.1f} s" if done.recovered is not None else "never ready again"
    again = f", cut off ones again after {', '.join(f'{seconds:.1f}' for seconds in done.again)} s" if done.again else ""
    lost = "".join(f"; task {task}: {reason}" for task, reason in balance.lost.items())
    return f"{done.fault}: {time}, run {done.state}, {len(balance.lost)} of {balance.tasks} tasks lost, {balance.repeated} repeated{again}{lost}"


def experiments(found: Sequence[Experiment], faults: Sequence[Fault]) -> Group:
    """Return the list of all experiments."""
    table = Fitted(*EXPERIMENTS)
    for experiment in found:
        table.add(experiment.name, f"{experiment.seconds} s", experiment.question)
    names = ", ".join(fault.name for fault in faults)
    return Group(table, Text(), Text(f"faults, measured under load: {names}"))


def result(done: Result) -> Group:
    """Return what an experiment has found."""
    checks = Fitted(*CHECKS)
    for check in done.finding.checks:
        word, colour = {True: ("yes", "green"), False: ("no", "red"), None: ("not known", "yellow")}[check.holds]
        checks.add(Text(word, colour), check.claim, check.measured)
    numbers = Fitted(*NUMBERS)
    for name, number in done.finding.numbers.items():
        numbers.add("-" if number is None else f"{number:g}", name)
    colour = {"as predicted": "green", "not as predicted": "red", "could not tell": "yellow"}[done.verdict]
    verdict = Text(f"{done.experiment.name}: {done.verdict}" + (f": {done.why}" if done.why else ""), colour)
    parts: list[Fitted | Text] = [checks, Text()] if done.finding.checks else []
    parts += [numbers, Text()] if done.finding.numbers else []
    return Group(*parts, verdict)


def rows(summary: Sequence[Row]) -> Fitted:
    """Return the table of `lab experiment`."""
    table = Fitted(*FAULTS)
    for row in summary:
        table.add(
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


def progress(result: Run) -> Text:
    """Return one line about the progress of a run, and what keeps tasks of it from starting."""
    counts = Counter(task.state or "none" for task in result.tasks)
    line = f"{result.state}: " + ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    return Text("\n").join([Text(line), *_reasons(result)])


def _reasons(result: Run) -> list[Text]:
    return [Text(f"{visible(name)}: {reason}", "yellow") for name, reason in result.reasons.items()]


def _relative(when: float | None, zero: float) -> str:
    return f"{when - zero:.1f}" if when else "-"
