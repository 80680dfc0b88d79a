"""A worker that is asked to stop finishes its tasks; one that is killed loses them."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Timeline

GRACEFUL, HARD = "asked to stop", "killed"
TASKS, SECONDS = 4, 10.0


def measure(bench: Bench) -> Measurement:
    """Stop one of two busy workers, and kill it."""

    def part(dag_id: str, how: str) -> Timeline:
        victim = bench.start_workers(2, TASKS // 2)[0]

        def end(run_id: str) -> None:
            bench.wait_for_tasks(dag_id, run_id, TASKS)
            bench.did(f"{victim} is {how}")
            bench.cluster.stop([victim]) if how == GRACEFUL else bench.cluster.kill(victim)

        found = bench.run(dag_id, [Group("work", QUEUE, SECONDS, TASKS)], end)
        bench.start_workers(0, 0)
        return found

    parts = {GRACEFUL: part("experiment_graceful_stop", GRACEFUL), HARD: part("experiment_hard_stop", HARD)}
    limit = round(bench.cluster.settings.stop_timeout)
    return Measurement(Plan(slots={"stop timeout": limit}), parts)


def judge(found: Measurement) -> Finding:
    """Count tries, and what was computed twice."""
    tries = {part: _tries(timeline) for part, timeline in found.parts.items()}
    again = {part: sum(number > 1 for number in numbers.values()) for part, numbers in tries.items()}
    lost = {part: _lost(timeline) for part, timeline in found.parts.items()}
    states = {part: timeline.state for part, timeline in found.parts.items()}
    enough = found.plan.slots["stop timeout"] > SECONDS
    checks = [
        # LAB_STOP_TIMEOUT may be the user's own, and shorter than the tasks.
        Check(
            "after an orderly stop no task runs twice",
            f"{again[GRACEFUL]} of {len(tries[GRACEFUL])}",
            again[GRACEFUL] == 0 if enough else None,
        ),
        Check("after a kill those of the killed worker do", f"{again[HARD]} of {len(tries[HARD])}", 0 < again[HARD] < len(tries[HARD])),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {f"tasks that ran twice, {part}": float(number) for part, number in again.items()}
    numbers |= {f"seconds of work thrown away, {part}": figures.rounded(seconds) for part, seconds in lost.items()}
    numbers |= {
        f"seconds until all was done, {part}": figures.rounded(figures.duration(timeline, figures.spans(timeline, "running")))
        for part, timeline in found.parts.items()
    }
    return Finding(checks, numbers)


def _tries(timeline: Timeline) -> dict[str, int]:
    tries: dict[str, int] = {}
    for span in figures.spans(timeline, "running"):
        tries[span.name] = max(tries.get(span.name, 0), span.try_number)
    return tries


def _lost(timeline: Timeline) -> float:
    return sum(timeline.until(before) - before.start for before, _ in timeline.retries())


EXPERIMENT = Experiment(
    name="graceful-stop",
    question="What does it cost to stop a worker, and what to kill it?",
    prediction="A worker that is asked to stop finishes what it runs, and no task runs twice. When it is killed, its tasks run again from the start.",
    measure=measure,
    judge=judge,
    mechanism="SIGTERM is Celery's warm shutdown: the worker takes no more messages, and ends when its tasks have ended. Docker waits for that for 10 s, "
    "Kubernetes for 30 s; then they send SIGKILL, and the tasks are lost, as with a lost machine. So give a worker more time than its longest "
    "task takes. The signal must reach the worker alone: if the processes of its pool get it too, it ends their tasks.",
    settings=(
        Setting("LAB_STOP_TIMEOUT", "seconds that the lab gives a worker's tasks to end"),
        Setting(
            "terminationGracePeriodSeconds", "the same in Kubernetes; `workers.celery.terminationGracePeriodSeconds` of Airflow's chart"
        ),
        Setting("stop_grace_period", "the same in a docker compose file"),
    ),
    next=(
        "`./lab down`, `LAB_STOP_TIMEOUT=5 ./lab up -d`, and run this again: with less time than a task takes, an orderly stop is a kill.",
    ),
    seconds=70,
)
