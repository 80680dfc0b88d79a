"""Heavy tasks on a queue of their own leave light ones alone; on the same queue they starve them."""

from __future__ import annotations

from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench, slots_of
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.inside_airflow.experiment_groups import Group

#: The queue for heavy tasks of the lab's default Procfile and example DAG.
HEAVY = "high_cpu"
APART, SHARED = "a queue of their own", "the same queue"
#: Seconds of a heavy and of a light task.
LONG, SHORT, LIGHT = 3.0, 0.5, 4
#: How many times longer light tasks wait behind heavy ones, at least.
FACTOR = 3.0
#: Seconds in which all of it has run on any machine.
PATIENCE = 60.0


def measure(bench: Bench) -> Measurement:
    """Run heavy and light tasks at once, with the heavy ones on a queue of their own and on that of the light ones."""
    workers = bench.workers()
    light = bench.default_queue()
    slots = slots_of(workers, light)
    if not slots:
        raise CannotTellError(f"no worker listens on the queue {light}; start one.")
    others = sorted({queue for worker in workers for queue in worker.queues} - {light})
    heavy = others[0] if others and HEAVY not in others else HEAVY
    count = 2 * sum(slots.values())

    def groups(queue: str) -> list[Group]:
        # The heavy ones are sent first.
        return [Group("heavy", queue, LONG, count, priority=10), Group("light", light, SHORT, LIGHT)]

    apart = bench.run("experiment_routed", groups(heavy), timeout=PATIENCE)
    shared = bench.run("experiment_not_routed", groups(light), timeout=PATIENCE)
    plan = Plan({"heavy": heavy, "light": light}, slots_of(workers, heavy))
    return Measurement(plan, {APART: apart, SHARED: shared})


def judge(found: Measurement) -> Finding:
    """Compare how long light tasks waited, and see who ran what."""
    apart, shared = found.parts[APART], found.parts[SHARED]
    heavy, light = found.plan.names["heavy"], found.plan.names["light"]
    waits = {part: figures.waited(timeline, "light") for part, timeline in found.parts.items()}
    times = figures.ratio(waits[SHARED], waits[APART])
    ran_heavy = figures.workers(figures.spans(apart, "running", "heavy"))
    ran_light = figures.workers(figures.spans(apart, "running", "light"))
    claims = [
        Check(
            f"heavy tasks run on workers of {heavy} alone",
            f"they ran on {', '.join(sorted(ran_heavy)) or 'none'}; {', '.join(sorted(found.plan.slots)) or 'none'} listened there",
            bool(ran_heavy) and ran_heavy <= set(found.plan.slots),
        ),
        Check("light tasks run on other workers", ", ".join(sorted(ran_light)) or "none", bool(ran_light) and not ran_light & ran_heavy),
        Check(
            f"behind heavy tasks on {light}, light ones wait {FACTOR:g} times as long or longer",
            f"{times} times",
            times is not None and times >= FACTOR,
        ),
        Check("each task succeeds", f"{apart.state}, {shared.state}", apart.state == shared.state == "success"),
    ]
    numbers = {
        "seconds a light task waits, heavy ones elsewhere (median)": figures.rounded(waits[APART]),
        "seconds a light task waits, heavy ones on its queue (median)": figures.rounded(waits[SHARED]),
        "times as long": times,
    }
    return Finding(claims, numbers)


EXPERIMENT = Experiment(
    name="routing",
    question="What does a queue of their own for heavy tasks do for light ones?",
    prediction="With heavy tasks on a queue of their own, light ones hardly wait. On the same queue, light tasks wait at least three times as long.",
    measure=measure,
    judge=judge,
    mechanism="A task's `queue` names a list in the broker, and a worker takes messages of the queues that it was started with and of "
    "no others. A queue does not tell tasks apart: first come, first served. So give tasks that hold slots for long a queue, and workers, "
    "of their own.",
    settings=(
        Setting("@task(queue=...)", "the queue of a task"),
        Setting("airflow celery worker --queues", "the queues that a worker listens to"),
        Setting("[operators] default_queue", "the queue of tasks, and of workers, that name none"),
    ),
    next=(
        "Change `--queues high_cpu` of a worker to `default` in the Procfile, `./lab apply`, and run this again: the verdict is `not as predicted`.",
        "Let the worker of heavy tasks listen on both queues, `--queues default,high_cpu`: light tasks get its free slots too.",
    ),
    seconds=35,
)
