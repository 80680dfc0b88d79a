"""What priority_weight does with Celery: it orders what the scheduler sends, and not what waits in the queue."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Timeline

BROKER, POOL = "they wait in the queue", "they wait for a pool"
LOW, HIGH, SECONDS = 6, 3, 1.5


def measure(bench: Bench) -> Measurement:
    """Let urgent tasks come when others wait already: in the queue, and for a pool of one slot."""
    bench.start_workers(1, 1)
    parts = {BROKER: bench.run("experiment_in_queue", _groups("default_pool"))}
    parts[POOL] = bench.run("experiment_in_pool", _groups(bench.make_pool("experiment", 1)))
    return Measurement(Plan(), parts)


def _groups(pool: str) -> list[Group]:
    return [
        Group("first", QUEUE, SECONDS, priority=100, pool=pool),
        Group("ordinary", QUEUE, SECONDS, LOW, priority=1, pool=pool),
        Group("urgent", QUEUE, SECONDS, HIGH, priority=50, pool=pool, after="first"),
    ]


def judge(found: Measurement) -> Finding:
    """Count the ordinary tasks that began before an urgent one was begun."""
    before = {part: _before(timeline) for part, timeline in found.parts.items()}
    states = {part: timeline.state for part, timeline in found.parts.items()}
    checks = [
        Check(f"in the queue, all {LOW} ordinary tasks come first", f"{before[BROKER]} did", before[BROKER] == LOW),
        # One may take the slot in the moment before the urgent ones can run.
        Check("for a pool, the urgent ones overtake: at most one ordinary task comes first", f"{before[POOL]} did", 0 <= before[POOL] <= 1),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {
        f"ordinary tasks before the first urgent one, {part}": float(number) for part, number in before.items()
    }
    numbers |= {
        f"seconds an urgent task waits, {part} (median)": figures.rounded(figures.waited(timeline, "urgent"))
        for part, timeline in found.parts.items()
    }
    return Finding(checks, numbers)


def _before(timeline: Timeline) -> int:
    """Return how many ordinary tasks began before the first urgent one; -1 where no urgent one began."""
    first = min((span.start for span in figures.spans(timeline, "running", "urgent")), default=None)
    return -1 if first is None else sum(span.start < first for span in figures.spans(timeline, "running", "ordinary"))


EXPERIMENT = Experiment(
    name="priorities",
    question="Does an urgent task overtake others that wait already?",
    prediction="In the queue it does not: it waits behind all that came before it, whatever its `priority_weight`. Where they wait for a full pool, it does.",
    measure=measure,
    judge=judge,
    mechanism="`priority_weight` orders what the scheduler sends in one round. What was sent lies in a list of the broker, and Airflow gives "
    "Celery no priority with it: first come, first served. A task for which its pool has no slot is not sent; it waits with the scheduler, "
    "where its weight counts. So priorities count if the pool is no larger than the workers' slots.",
    settings=(
        Setting("priority_weight, weight_rule", "of a task: which of those that could be sent are sent first"),
        Setting("pool, pool_slots", "of a task: what it needs before it is sent"),
        Setting("[core] default_pool_task_slot_count", "the slots of the pool of all tasks that name none (128; no limit in the lab)"),
        Setting("[core] parallelism", "holds tasks back with the scheduler as a pool does"),
    ),
    next=(
        "In a DAG of your own, use a pool with two slots more than the workers have: two tasks wait in the queue then, and are not overtaken.",
    ),
    seconds=70,
)
