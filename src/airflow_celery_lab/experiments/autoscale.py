"""A worker whose slots follow the load, and one whose slots are fixed."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import WORKER, Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Timeline
from airflow_celery_lab.wait import wait_until

FIXED, FOLLOWING = "fixed slots", "slots that follow the load"
MOST, LEAST = 4, 1
TASKS, SECONDS = 8, 3.0
#: Seconds after which Celery looks whether there are too many processes, and that must have passed since there were too few.
#: Its own value is 30.
KEEPALIVE = 5
#: Seconds in which it has looked twice, and a process has ended.
SHRUNK = 2.0 * KEEPALIVE + 5.0
#: How many times as long all tasks may take where processes have to be started first, on a busy machine too. Where none is, it
#: is MOST times.
FACTOR = 2.0
#: How many processes there are, by when that is counted.
AT_REST, AT_WORK, AFTERWARDS = "at rest", "at work", "afterwards"
SHRINKS = "seconds until its slots are those at rest again"


def measure(bench: Bench) -> Measurement:
    """Run the same tasks on a worker of each kind, and count the processes of its pool."""
    seen: dict[str, float] = {}
    parts = {}
    lines = {
        FIXED: WorkerLine(MOST),
        FOLLOWING: WorkerLine(MOST, least=LEAST, variables={"AUTOSCALE_KEEPALIVE": f"{KEEPALIVE}"}),
    }

    def counts(part: str, dag_id: str) -> Callable[[str], None]:
        def count(run_id: str) -> None:
            bench.wait_for_tasks(dag_id, run_id, MOST)
            seen[f"{part}, {AT_WORK}"] = _processes(bench)

        return count

    for part, line in lines.items():
        bench.run_workers(line)
        dag_id = f"experiment_{part.replace(' ', '_')}"
        seen[f"{part}, {AT_REST}"] = _processes(bench)
        parts[part] = bench.run(dag_id, [Group("work", QUEUE, SECONDS, TASKS)], counts(part, dag_id))
    ended = time.time() - parts[FOLLOWING].end
    try:
        seen[SHRINKS] = ended + wait_until(lambda: _too_many(bench), SHRUNK + KEEPALIVE, "the end of what it needs no more", interval=0.5)
    except NotReadyError:
        bench.did("it has not given up all processes that it needs no more")
    seen[f"{FOLLOWING}, {AFTERWARDS}"] = _processes(bench)
    return Measurement(Plan(slots={WORKER.format(1): MOST}), parts, seen)


def _processes(bench: Bench) -> int:
    return bench.cluster.broker.pool_processes(len(bench.cluster.slots())).get(WORKER.format(1), 0)


def _too_many(bench: Bench) -> str | None:
    number = _processes(bench)
    return None if number == LEAST else f"it has {number} processes"


def judge(found: Measurement) -> Finding:
    """Compare processes, tasks at one moment, and how long all took."""
    seen = {name: int(number) for name, number in found.seen.items() if name != SHRINKS}
    peaks = {part: figures.peak(timeline, figures.spans(timeline, "running")) for part, timeline in found.parts.items()}
    took = {part: figures.duration(timeline, figures.spans(timeline, "running")) for part, timeline in found.parts.items()}
    times = figures.ratio(took[FOLLOWING], took[FIXED])
    shrinks = found.seen.get(SHRINKS)
    states = {part: timeline.state for part, timeline in found.parts.items()}
    rest = [seen[f"{part}, {AT_REST}"] for part in (FIXED, FOLLOWING)]
    work = [seen[f"{part}, {AT_WORK}"] for part in (FIXED, FOLLOWING)]
    checks = [
        Check(f"at rest it has {LEAST} process, and one with fixed slots {MOST}", f"{rest[1]} and {rest[0]}", rest == [MOST, LEAST]),
        Check(
            f"at work both have {MOST}, and run as many tasks at one moment",
            f"{work[1]} and {work[0]} processes; {peaks[FOLLOWING]} and {peaks[FIXED]} tasks",
            set(work) == set(peaks.values()) == {MOST},
        ),
        Check(f"all tasks take at most {FACTOR:g} times as long", f"{times} times", times is not None and times <= FACTOR),
        Check(
            f"within {SHRUNK:g} s of the end it has {LEAST} again",
            f"{seen[f'{FOLLOWING}, {AFTERWARDS}']}, after {told(shrinks)}",
            seen[f"{FOLLOWING}, {AFTERWARDS}"] == LEAST and shrinks is not None and shrinks <= SHRUNK,
        ),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {f"processes, {name}": float(number) for name, number in seen.items()}
    numbers |= {f"seconds for all tasks, {part}": figures.rounded(seconds) for part, seconds in took.items()}
    numbers |= {
        f"seconds from the first task's start until all slots are at work, {part}": figures.rounded(_until_all_run(timeline))
        for part, timeline in found.parts.items()
    }
    numbers[SHRINKS] = figures.rounded(shrinks)
    return Finding(checks, numbers)


def _until_all_run(timeline: Timeline) -> float | None:
    spans = figures.spans(timeline, "running")
    full = [span.start for span in spans if sum(one.start <= span.start < timeline.until(one) for one in spans) >= MOST]
    return min(full) - min(span.start for span in spans) if full else None


EXPERIMENT = Experiment(
    name="autoscale",
    question="What does a worker gain whose slots follow the load?",
    prediction=f"With `--autoscale {MOST},{LEAST}` a worker has {LEAST} process at rest, {MOST} as soon as tasks come, and {LEAST} again when they have ended. "
    f"All tasks take at most {FACTOR:g} times as long as with {MOST} fixed slots.",
    measure=measure,
    judge=judge,
    mechanism="A worker with `--autoscale MAX,MIN` takes as many messages as one with MAX slots. For each message that it has no process for it "
    "forks one. It does nothing else meanwhile, so slots are added one after another, and on a "
    "busy machine that takes seconds. Every 30 s, here every 5 s, it ends processes that have nothing to do. That saves memory, about 50 MB for each process "
    "that has run a task. Celery by itself may choose a process there that ends already, and keeps another one until the next load; "
    "the lab's workers wait for the end of the first one. All this is within one worker; what adds workers stands outside, such as `./lab scale`, or KEDA in Kubernetes.",
    settings=(
        Setting(
            "airflow celery worker --autoscale MAX,MIN",
            "slots of one worker, at work and at rest; `[celery] worker_autoscale` for all workers",
        ),
        Setting("airflow celery worker --concurrency", "does not count beside it"),
        Setting("AUTOSCALE_KEEPALIVE", "in a worker's environment: seconds between two looks for processes to end (30)"),
    ),
    next=("Write `--autoscale 8,1` in place of `--concurrency` in the Procfile, `./lab apply`, and look at the memory in `./lab status`.",),
    seconds=60,
)
