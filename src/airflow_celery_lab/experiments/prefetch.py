"""What a worker takes before it can run it waits for that worker, also while another one has nothing to do."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Span, Timeline

#: Messages for each slot that a worker takes in the second part.
MULTIPLIER = 4
ONE, MANY, EARLY = "one message a slot", f"{MULTIPLIER} messages a slot", "one message a slot, acknowledged early"
VARIABLES = {
    ONE: {"AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1", "AIRFLOW__CELERY__TASK_ACKS_LATE": "True"},
    MANY: {"AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": f"{MULTIPLIER}", "AIRFLOW__CELERY__TASK_ACKS_LATE": "True"},
    EARLY: {"AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1", "AIRFLOW__CELERY__TASK_ACKS_LATE": "False"},
}
#: Seconds of the long task and of the short ones, which are done on one slot before the long one ends, and how many those are.
LONG, SHORT, NUMBER = 14.0, 0.5, 5
#: Seconds by which a task may begin before the end of another one whose slot it gets, as Airflow dates the two.
SLACK = 0.5


def measure(bench: Bench) -> Measurement:
    """Run a long task and short ones on two workers of one slot, each time with other settings of theirs."""
    parts = {}
    for number, (part, variables) in enumerate(VARIABLES.items(), start=1):
        bench.run_workers(*[WorkerLine(1, variables=variables)] * 2)
        groups = [Group("long", QUEUE, LONG, priority=10), Group("short", QUEUE, SHORT, NUMBER)]
        parts[part] = bench.run(f"experiment_prefetch_{number}", groups)
    return Measurement(Plan(), parts)


def judge(found: Measurement) -> Finding:
    """Count the short tasks that waited for the long one's end, and see how long the other worker had nothing to do meanwhile."""
    behind = {part: len(_behind(timeline)) for part, timeline in found.parts.items()}
    idle = {part: _idle(timeline) for part, timeline in found.parts.items()}
    waits = {part: _longest_wait(timeline) for part, timeline in found.parts.items()}
    states = {part: timeline.state for part, timeline in found.parts.items()}
    checks = [
        # On a busy machine the short tasks may not be done before the long one; then its worker rightly takes one.
        Check(
            "with one message a slot no short task waits for the long one",
            f"{behind[ONE]} did",
            None if behind[ONE] and (idle[ONE] or 0.0) <= SLACK else behind[ONE] == 0,
        ),
        Check(
            f"with {MULTIPLIER}, some do, while the other worker has nothing to do",
            f"{behind[MANY]} did; it had nothing to do for {told(idle[MANY])}",
            behind[MANY] > 0 and (idle[MANY] or 0.0) > SLACK,
        ),
        Check("acknowledged early, one does, as a running task does not count then", f"{behind[EARLY]} did", behind[EARLY] == 1),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {f"short tasks behind the long one, {part}": float(number) for part, number in behind.items()}
    numbers |= {f"seconds that a short task waits at most, {part}": figures.rounded(seconds) for part, seconds in waits.items()}
    numbers |= {f"seconds that a worker has nothing to do meanwhile, {part}": figures.rounded(seconds) for part, seconds in idle.items()}
    return Finding(checks, numbers)


def _long(timeline: Timeline) -> Span | None:
    return next(iter(figures.spans(timeline, "running", "long")), None)


def _behind(timeline: Timeline) -> list[Span]:
    """Return the short tasks that began on the long one's worker when that had ended."""
    long = _long(timeline)
    if long is None:
        return []
    end = timeline.until(long) - SLACK
    return [span for span in figures.spans(timeline, "running", "short") if span.worker == long.worker and span.start >= end]


def _idle(timeline: Timeline) -> float | None:
    """Return the seconds from the last end of a short task on the other worker to the end of the long one."""
    long = _long(timeline)
    if long is None:
        return None
    ends = [timeline.until(span) for span in figures.spans(timeline, "running", "short") if span.worker != long.worker]
    return max(timeline.until(long) - max(ends), 0.0) if ends else None


def _longest_wait(timeline: Timeline) -> float | None:
    return max((timeline.until(span) - span.start for span in figures.spans(timeline, "waiting", "short")), default=None)


EXPERIMENT = Experiment(
    name="prefetch",
    question="Why does a task wait although a worker has a free slot?",
    prediction=f"With one message a slot no short task waits behind a long one. With {MULTIPLIER} the long one's worker has taken short tasks that wait "
    "for it, while the other worker has nothing to do; and one is enough where messages are acknowledged early.",
    measure=measure,
    judge=judge,
    mechanism="A worker takes messages ahead, as many as its slots times `worker_prefetch_multiplier`, so that a slot need not wait for the broker. "
    "What it has taken is reserved: no other worker gets it. A message counts until it is acknowledged. With `task_acks_late` that is at the "
    "task's end, so a worker whose slots are full takes no more; without it, at the task's start, so it takes one more for each slot. "
    "Celery's default is 4, which suits tasks of milliseconds; Airflow's is 1 with late acknowledgement. Within a worker, Airflow sets "
    "Celery's option `-O fair`: a message goes to a slot that is free.",
    settings=(
        Setting("[celery] worker_prefetch_multiplier", "messages for each slot that a worker takes (1; Celery's own default is 4)"),
        Setting("[celery] task_acks_late", "a message is acknowledged when its task has ended, and not when it begins (True)"),
        Setting("worker_disable_prefetch", "of Celery 5.6, with Redis: a worker takes a message only when a slot is free (False)"),
    ),
    next=(
        "Put `AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER=4` before the command of a worker in the Procfile, and `./lab apply`.",
        "Then `./lab run fan_out --conf '{\"tasks\": 20}'`, and meanwhile `./lab metrics`: `airflow_lab_worker_reserved_tasks` counts what waits there.",
    ),
    seconds=100,
)
