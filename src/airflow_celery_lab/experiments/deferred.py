"""Deferred tasks wait with the triggerer, and need no worker's slot meanwhile."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group

TASKS, SECONDS, SLOTS = 8, 8.0, 2
#: How many times as fast deferred tasks are done, at least; the ideal is TASKS / SLOTS.
FACTOR = 1.5
HELD, GIVEN = "waits in slots", "waits with the triggerer"


def measure(bench: Bench) -> Measurement:
    """Wait in slots, and with the triggerer."""
    bench.start_workers(1, SLOTS)
    held = bench.run("experiment_in_slots", [Group("wait", QUEUE, SECONDS, TASKS)])
    given = bench.run("experiment_deferred", [Group("wait", QUEUE, SECONDS, TASKS, deferred=True)])
    return Measurement(Plan(slots={"experiment-1": SLOTS}), {HELD: held, GIVEN: given})


def judge(found: Measurement) -> Finding:
    """Count who waits at one moment, and how long all took."""
    held, given = found.parts[HELD], found.parts[GIVEN]
    took = {part: timeline.end - timeline.start for part, timeline in found.parts.items()}
    at_once = figures.peak(given, figures.spans(given, "deferred"))
    in_slots = max(figures.peak(timeline, figures.spans(timeline, "running")) for timeline in (held, given))
    times = figures.ratio(took[HELD], took[GIVEN])
    checks = [
        Check(f"all {TASKS} deferred tasks wait at one moment", f"{at_once}", at_once == TASKS),
        Check(f"never more than {SLOTS} tasks are in slots", f"{in_slots}", in_slots <= SLOTS),
        Check(f"deferred, all are done at least {FACTOR} times as fast", f"{times} times", times is not None and times >= FACTOR),
        Check("each task succeeds", f"{held.state}, {given.state}", held.state == given.state == "success"),
    ]
    return Finding(
        checks,
        {
            "seconds in slots": figures.rounded(took[HELD]),
            "seconds deferred": figures.rounded(took[GIVEN]),
            "times as fast": times,
            "deferred at one moment": float(at_once),
        },
    )


EXPERIMENT = Experiment(
    name="deferred",
    question="What does a task cost that only waits?",
    prediction=f"{TASKS} tasks wait for {SECONDS:g} s each, on {SLOTS} slots. Deferred, all wait at the same time; otherwise two at a time.",
    measure=measure,
    judge=judge,
    mechanism="A deferrable task gives its slot back and leaves a trigger: a few lines of asynchronous Python, which wait in the triggerer's one "
    "process with all others. When the trigger fires, the task is sent to its queue once more, and waits for a slot like any other. So it "
    "is in a slot twice for a moment, and not once for long.",
    settings=(
        Setting("deferrable=True", "of sensors and operators; `[operators] default_deferrable` for all that can"),
        Setting("[triggerer] capacity", "triggers of one triggerer at a time (1000)"),
        Setting("pool: include_deferred", "whether deferred tasks hold their pool's slots"),
    ),
    next=(
        "`./lab kill triggerer` while `./lab run deferred_wait` runs: the waits go on when it is back.",
        "`./lab run deferred_wait`, and look in Flower: each task is there twice.",
    ),
    seconds=65,
)
