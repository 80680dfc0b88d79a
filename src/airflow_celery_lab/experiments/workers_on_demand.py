"""Workers that come and go with the load, and workers that are always there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from airflow_celery_lab.autoscale import policy
from airflow_celery_lab.autoscale.autoscaler import INTERVAL
from airflow_celery_lab.autoscale.crew import Crew, Scene
from airflow_celery_lab.autoscale.load import Loads
from airflow_celery_lab.cluster import runs
from airflow_celery_lab.cluster.autoscaled import Autoscaled, Claim
from airflow_celery_lab.cluster.changing import changing
from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.configuration.procfile import Line
from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import PATIENCE, WORKER, Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.supervision import wanted
from airflow_celery_lab.timeline.spans import Timeline

FIXED, FOLLOWING = "workers that are always there", "workers that come with the load"
DAG = "experiment_workers_on_demand"
LEAST, MOST, SLOTS = 1, 3, 2
TASKS, SECONDS = 20, 4.0
#: Seconds that the least number of workers would need for all tasks, if a task cost nothing beside its own time.
ALONE = TASKS * SECONDS / (LEAST * SLOTS)
#: Seconds from the end of the load until the last worker that is too many has gone: each one is drained, and then stopped.
RETREAT = policy.PATIENCE + 30.0 * (MOST - LEAST)
#: How many workers there are, by when that is counted.
AT_REST, AT_WORK, AFTERWARDS = "workers at rest", "workers at work", "workers afterwards"
RETREATS = "seconds from the end of all tasks until there are as many workers as at rest"


def measure(bench: Bench) -> Measurement:
    """Run the same tasks on workers of each kind, and let the autoscaler look at those that come and go until it has ended them."""
    groups = [Group("work", QUEUE, SECONDS, TASKS)]
    seen: dict[str, float] = {}
    bench.run_workers(*[WorkerLine(SLOTS)] * MOST)
    fixed = bench.run("experiment_fixed_workers", groups)

    bench.run_workers(WorkerLine(SLOTS))
    with _autoscaler(bench) as look:
        seen[AT_REST] = look()
        following = bench.run(DAG, groups, lambda run_id: _follow(bench, run_id, look, seen))
        ended = time.monotonic()
        while (count := look()) > LEAST and time.monotonic() < ended + RETREAT:
            bench.let_pass(INTERVAL, f"{count} of {LEAST} to {MOST} workers are there")
        seen[AFTERWARDS] = count
        if count == LEAST:
            seen[RETREATS] = time.monotonic() - ended
    return Measurement(Plan(slots={WORKER.format(1): SLOTS}), {FIXED: fixed, FOLLOWING: following}, seen)


def _follow(bench: Bench, run_id: str, look: Callable[[], int], seen: dict[str, float]) -> None:
    """Look again and again until the run has ended, or goes on for too long."""
    deadline = time.monotonic() + PATIENCE
    while bench.cluster.api.run_state(DAG, run_id) not in runs.FINAL and time.monotonic() < deadline:
        seen[AT_WORK] = max(seen.get(AT_WORK, 0), count := look())
        bench.let_pass(INTERVAL, f"{count} of {LEAST} to {MOST} workers are at work")


@contextmanager
def _autoscaler(bench: Bench) -> Iterator[Callable[[], int]]:
    """Yield what looks once at the load of the experiment's worker, as `autoscale` does, and returns how many there are then.

    Raises:
        CannotTellError: this machine may not have the memory for all of them.

    """
    cluster, name = bench.cluster, WORKER.format(1)
    processes = cluster.supervisor.processes
    lines = [*cluster.lines(), Line(name, processes[name], procfile.service_of(processes[name]))]
    if shortage := cluster.shortage(wanted.scaled(processes, lines, {name: MOST})):
        raise CannotTellError(f"{shortage}.")
    note = Autoscaled(name, LEAST, MOST, LEAST, LEAST, "it has just started", "", "", os.getpid())
    crew = Crew(cluster, os.environ, Claim(cluster.lab.state, note), bench.did)
    loads = Loads(cluster.lab)

    def look() -> int:
        with changing(cluster.lab.state, 0) as held:
            if held:
                crew.look(Scene(cluster.supervisor.processes, cluster.supervisor.states(), lines, loads.ask()))
        return crew.claim.note.actual

    try:
        yield look
    finally:
        crew.let_go()
        loads.close()


def judge(found: Measurement) -> Finding:
    """See how many workers there were and ran tasks, and what all tasks took."""
    numbers = [int(found.seen[name]) if name in found.seen else None for name in (AT_REST, AT_WORK, AFTERWARDS)]
    took = {part: figures.duration(timeline, figures.spans(timeline, "running")) for part, timeline in found.parts.items()}
    waited = {part: figures.waited(timeline, "work") for part, timeline in found.parts.items()}
    following, needed = found.parts[FOLLOWING], took[FOLLOWING]
    used = len(figures.workers(figures.spans(following, "running")))
    retreats = found.seen.get(RETREATS)
    checks = [
        Check(f"there is {LEAST} worker at rest, and {MOST} at work", f"{numbers[0]} and {numbers[1]}", numbers[:2] == [LEAST, MOST]),
        Check("those that came run tasks as well", f"{used} of {MOST} ran some", used == MOST),
        Check(
            f"all tasks take less than the {ALONE:g} s that {LEAST} worker would need at best",
            told(needed),
            needed is not None and needed < ALONE,
        ),
        Check(
            f"within {RETREAT:g} s of their end there is {LEAST} again",
            f"{numbers[2]}, after {told(retreats)}",
            numbers[2] == LEAST and retreats is not None,
        ),
        Check("no task loses a try, and the runs succeed", _tries(found.parts.values()), _succeed(found.parts.values())),
    ]
    measured: dict[str, float | None] = {f"seconds for all tasks, {part}": figures.rounded(seconds) for part, seconds in took.items()}
    measured |= {f"seconds that a task waited, {part} (median)": figures.rounded(seconds) for part, seconds in waited.items()}
    measured[RETREATS] = figures.rounded(retreats)
    return Finding(checks, measured)


EXPERIMENT = Experiment(
    name="workers-on-demand",
    question="What does it cost, and what does it save, that workers come and go with the load?",
    prediction=f"With `autoscale` and a range of {LEAST}..{MOST} there is {LEAST} worker at rest, {MOST} while {TASKS} tasks of {SECONDS:g} s wait or run on "
    f"{SLOTS} slots a worker, and {LEAST} again some time after their end. All tasks take less time than {LEAST} worker alone would need, and "
    "none loses a try when a worker goes.",
    measure=measure,
    judge=judge,
    mechanism="The autoscaler counts the queued and running tasks of the worker's queues in Airflow's database, as KEDA does for the official Helm "
    f"chart, and wants as many workers as have slots for them. It looks every {INTERVAL:g} s; a new worker takes seconds to start, and tasks "
    f"wait meanwhile: that is the cost. Down it goes by the greatest load of the last {policy.PATIENCE:g} s, one worker at a time: that one leaves its "
    "queues, ends its tasks, and is stopped when it has none. What it saves is the memory of workers that nobody needs, about 160 MB each and "
    "some 50 MB for each slot.",
    settings=(
        Setting("./lab autoscale worker-default=1..6", "the range; in a terminal, or as a line of the Procfile"),
        Setting("airflow celery worker --concurrency", "slots of each worker, by which the number of workers is worked out"),
        Setting(
            "workers.celery.keda of the Helm chart", "the same on Kubernetes; `./lab export helm` writes it from the autoscaler's line"
        ),
    ),
    next=(
        "`./lab autoscale worker-default=0..3`, and `./lab run fan_out` when no worker is left: what does the first task wait for?",
        "`./lab experiment autoscale`: the slots of one worker follow the load.",
    ),
    seconds=120,
)


def _tries(parts: Collection[Timeline]) -> str:
    spans = [span for timeline in parts for span in figures.spans(timeline, "running")]
    again = sum(span.try_number > 1 for span in spans)
    return f"{again} of {len(spans)} were a second try; {', '.join(timeline.state for timeline in parts)}"


def _succeed(parts: Collection[Timeline]) -> bool:
    return all(
        timeline.state == "success" and all(span.try_number == 1 for span in figures.spans(timeline, "running")) for timeline in parts
    )
