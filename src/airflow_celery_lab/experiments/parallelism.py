"""Tasks that do not wait for each other overlap, as far as workers have slots."""

from __future__ import annotations

from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench, slots_of
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group

TASKS, SECONDS = "abcd", 3.0
ALL, ONE = "all slots", "one slot"


def measure(bench: Bench) -> Measurement:
    """Run a, b, c and d on the lab's own workers, and again on a worker with one slot."""
    queue = bench.default_queue()
    slots = slots_of(bench.workers(), queue)
    if sum(slots.values()) <= 1:
        raise CannotTellError(f"no worker, or one slot alone, listens on the queue {queue}; start workers with two slots or more.")
    together = bench.run("experiment_all_slots", [Group(name, queue, SECONDS) for name in TASKS])
    bench.start_workers(1, 1)
    alone = bench.run("experiment_one_slot", [Group(name, QUEUE, SECONDS) for name in TASKS])
    return Measurement(Plan({"queue": queue}, slots), {ALL: together, ONE: alone})


def judge(found: Measurement) -> Finding:
    """Count how many ran at one moment, and how long all took."""
    wide, narrow = found.parts[ALL], found.parts[ONE]
    ran = {part: figures.spans(timeline, "running") for part, timeline in found.parts.items()}
    expected = min(len(TASKS), sum(found.plan.slots.values()))
    peaks = {part: figures.peak(found.parts[part], spans) for part, spans in ran.items()}
    took = {part: figures.duration(found.parts[part], spans) for part, spans in ran.items()}
    least = len(TASKS) * SECONDS
    checks = [
        Check(
            f"with {sum(found.plan.slots.values())} slots, {expected} of the tasks run at one moment",
            f"{peaks[ALL]}",
            peaks[ALL] == expected,
        ),
        Check("on one slot, never two", f"{peaks[ONE]}", peaks[ONE] == 1),
        Check(f"on one slot, all take {least:g} s or more", told(took[ONE]), (took[ONE] or 0.0) >= least),
        Check("each task succeeds", f"{wide.state}, {narrow.state}", wide.state == narrow.state == "success"),
    ]
    numbers = {
        "seconds with all slots": figures.rounded(took[ALL]),
        "seconds on one slot": figures.rounded(took[ONE]),
        "times as long": figures.ratio(took[ONE], took[ALL]),
    }
    return Finding(checks, numbers)


EXPERIMENT = Experiment(
    name="parallelism",
    question="When do tasks run at the same time?",
    prediction="Four tasks that do not wait for each other overlap as far as the workers have slots. On one slot they run one after another.",
    measure=measure,
    judge=judge,
    mechanism="The scheduler sends all tasks that can run to the queue at once. A worker takes as many messages as it has slots; "
    "a slot is a process of its pool. The other messages wait in the queue until a slot is free. Airflow's own limits come before "
    "that: a task that they hold back is not sent.",
    settings=(
        Setting("airflow celery worker --concurrency", "slots of one worker; `[celery] worker_concurrency` where a worker does not say"),
        Setting("[core] parallelism", "tasks that one scheduler has sent and that have not ended"),
        Setting("[core] max_active_tasks_per_dag", "tasks of one DAG's runs at a time"),
    ),
    next=(
        "`./lab run fan_out` before and after `./lab scale worker-default=2`: half the time.",
        "Set `max_active_tasks=2` in a DAG: its tasks now wait as `scheduled`, and not as `queued`.",
    ),
    seconds=35,
)
