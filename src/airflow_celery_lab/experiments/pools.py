"""A pool holds tasks back while workers have free slots."""

from __future__ import annotations

from collections.abc import Callable

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group

FREE, POOL = "no pool of its own", "a pool of two slots"
TASKS, SECONDS, SLOTS, HELD = 8, 3.0, 4, 2


def measure(bench: Bench) -> Measurement:
    """Run tasks on one worker, without a pool of their own and in one that is smaller than the worker."""
    bench.start_workers(1, SLOTS)
    seen: dict[str, float] = {}

    def count(part: str, dag_id: str, running: int) -> Callable[[str], None]:
        def look(run_id: str) -> None:
            bench.wait_for_tasks(dag_id, run_id, running)
            seen[part] = bench.cluster.broker.waiting(QUEUE)

        return look

    def groups(pool: str) -> list[Group]:
        return [Group("work", QUEUE, SECONDS, TASKS, pool=pool)]

    parts = {FREE: bench.run("experiment_no_pool", groups("default_pool"), count(FREE, "experiment_no_pool", SLOTS))}
    pool = bench.make_pool("experiment", HELD)
    parts[POOL] = bench.run("experiment_small_pool", groups(pool), count(POOL, "experiment_small_pool", HELD))
    return Measurement(Plan(slots={"experiment-1": SLOTS}), parts, seen)


def judge(found: Measurement) -> Finding:
    """Count what runs at one moment, and what waits in the queue meanwhile."""
    peaks = {part: figures.peak(timeline, figures.spans(timeline, "running")) for part, timeline in found.parts.items()}
    took = {part: figures.duration(timeline, figures.spans(timeline, "running")) for part, timeline in found.parts.items()}
    states = {part: timeline.state for part, timeline in found.parts.items()}
    queued = {part: found.seen.get(part) for part in found.parts}
    checks = [
        Check(
            f"without a pool of their own {SLOTS} tasks run at one moment, and {TASKS - SLOTS} wait in the queue",
            _told(peaks[FREE], queued[FREE]),
            (peaks[FREE], queued[FREE]) == (SLOTS, TASKS - SLOTS),
        ),
        Check(
            f"in a pool of {HELD}, {HELD} run at one moment, and none waits in the queue",
            _told(peaks[POOL], queued[POOL]),
            (peaks[POOL], queued[POOL]) == (HELD, 0),
        ),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {f"tasks at one moment, {part}": float(peak) for part, peak in peaks.items()}
    numbers |= {f"messages in the queue meanwhile, {part}": number for part, number in queued.items()}
    numbers |= {f"seconds for all tasks, {part}": figures.rounded(seconds) for part, seconds in took.items()}
    return Finding(checks, numbers)


def _told(peak: int, queued: float | None) -> str:
    return f"{peak} ran, {'?' if queued is None else f'{queued:g}'} waited there"


EXPERIMENT = Experiment(
    name="pools",
    question="What does a pool hold back while workers have free slots?",
    prediction=f"In a pool of {HELD} slots, {HELD} tasks run at one moment, although the worker has {SLOTS}. The others are not sent: none waits in the queue.",
    measure=measure,
    judge=judge,
    mechanism="A pool is a limit that Airflow counts in its database, over all workers, queues and DAGs. The scheduler sends a task when its pool has a "
    "slot for it; until then the task is `scheduled`, and Celery knows nothing of it. So a pool protects what tasks use, such as a database that bears "
    "two connections; slots of workers say what the workers bear.",
    settings=(
        Setting("pool, pool_slots", "of a task: whose slots it takes, and how many (1)"),
        Setting("airflow pools set NAME SLOTS TEXT", "makes a pool; a line of `airflow_settings.yaml` does it in a lab"),
        Setting("pool: include_deferred", "whether a deferred task keeps its pool's slots (no)"),
    ),
    next=("Give one task `pool_slots=2`: while it runs, the pool has no slot for another one.",),
    seconds=45,
)
