"""The same fan-out on one, two and four workers."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group

COUNTS = (1, 2, 4)
#: Long enough for what a task costs beside its own time, which varies by tenths of a second, to change little.
TASKS, SECONDS = 8, 5.0
#: The part of the ideal speed-up that is reached at least: what is lost goes to what each task costs beside its own time.
SHARE = 0.75
#: What exceeds the ideal by more than this factor is no inaccuracy.
POSSIBLE = 1.1


def _part(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def measure(bench: Bench) -> Measurement:
    """Run the fan-out on each number of workers with one slot."""
    parts = {}
    for count in COUNTS:
        bench.start_workers(count, 1)
        parts[_part(count)] = bench.run(f"experiment_on_{count}", [Group("work", QUEUE, SECONDS, TASKS)])
    return Measurement(Plan(), parts)


def judge(found: Measurement) -> Finding:
    """Compare each duration with that on one worker."""
    took = {
        count: figures.duration(timeline, figures.spans(timeline, "running"))
        for count in COUNTS
        for timeline in [found.parts[_part(count)]]
    }
    faster = {count: figures.ratio(took[1], took[count]) for count in COUNTS[1:]}
    numbers: dict[str, float | None] = {f"seconds on {_part(count)}": figures.rounded(took[count]) for count in COUNTS}
    numbers |= {f"times as fast on {_part(count)} (ideal {count})": times for count, times in faster.items()}
    checks = [
        Check(f"{_part(count)} are at least {SHARE * count:g} times as fast as one", _told(count, times), _holds(count, times))
        for count, times in faster.items()
    ]
    used = {count: len(figures.workers(figures.spans(found.parts[_part(count)], "running"))) for count in COUNTS}
    checks.append(
        Check("each worker takes part", ", ".join(f"{used[count]} of {count}" for count in COUNTS), all(used[n] == n for n in COUNTS))
    )
    return Finding(checks, numbers)


def _told(count: int, times: float | None) -> str:
    disturbed = times is not None and times > POSSIBLE * count
    return f"{times} times" + (", which cannot be: the machine had other work while one worker ran" if disturbed else "")


def _holds(count: int, times: float | None) -> bool | None:
    """Return whether a speed-up is what was predicted; None for one that only a disturbance explains."""
    if times is None:
        return False
    return None if times > POSSIBLE * count else times >= SHARE * count


EXPERIMENT = Experiment(
    name="scaling",
    question="How much faster are twice as many workers?",
    prediction=f"{TASKS} tasks of {SECONDS:g} s are done at least {SHARE * 2:g} times as fast on 2 workers, and {SHARE * 4:g} times as fast on 4.",
    measure=measure,
    judge=judge,
    mechanism="All workers of a queue take messages from one list, so work spreads by itself: a worker with a free slot takes the next one. "
    "Each task also costs about 0.2 s of a core beside its own time. Workers on one machine share its cores, so short tasks gain less "
    "from more workers, and on a busy machine nothing does.",
    settings=(
        Setting("airflow celery worker --concurrency", "slots of each worker"),
        Setting("[core] parallelism", "tasks that one scheduler has sent and that have not ended: a limit above all workers"),
        Setting("[celery] worker_prefetch_multiplier", "messages for each slot that a worker takes before it can run them (1)"),
    ),
    next=(
        '`./lab run fan_out --conf \'{"tasks": 40, "seconds": 0}\'` after `./lab scale worker-default=4`: empty tasks hardly get faster.',
        "Compare four workers of one slot with one worker of four: they are equally fast, but a killed worker costs a quarter of the slots there, and all of them here.",
    ),
    seconds=120,
)
