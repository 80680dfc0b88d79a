"""A worker is killed with the tasks that it runs: how soon that is known, and when they run again."""

from __future__ import annotations

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE
from airflow_celery_lab.inside_airflow.experiment_groups import Group

LOSS = "a worker is killed"
TASKS, SECONDS = 4, 15.0
#: Seconds after the kill in which all that it ran starts again, at most; measured maximum 9.9.
SOON = 15.0
#: Seconds in which Airflow finds a silent task with its defaults: `task_instance_heartbeat_timeout`, looked at every
#: `task_instance_heartbeat_timeout_detection_interval`.
TIMEOUT, INTERVAL = 300, 10


def measure(bench: Bench) -> Measurement:
    """Kill one of two busy workers. The other one has slots for all tasks: a wait for a slot is no part of the loss."""
    bench.start_workers(2, TASKS)
    dag_id = "experiment_worker_loss"
    victims: list[str] = []

    def kill(run_id: str) -> None:
        bench.wait_for_tasks(dag_id, run_id, TASKS)
        victims.append(next(task.worker for task in bench.cluster.look(dag_id, run_id).tasks if task.worker))
        bench.cluster.kill(victims[0])
        bench.did(f"killed {victims[0]}")

    timeline = bench.run(dag_id, [Group("work", QUEUE, SECONDS, TASKS)], kill)
    return Measurement(Plan({"victim": victims[0]}), {LOSS: timeline})


def judge(found: Measurement) -> Finding:
    """Follow the tasks that the victim ran."""
    timeline, victim = found.parts[LOSS], found.plan.names["victim"]
    killed, known = figures.mark(timeline, f"kill {victim}"), figures.mark(timeline, "worker lost")
    spans = figures.spans(timeline, "running")
    if killed is None:
        return Finding([Check("a worker is killed", "it was not", None)], {})
    cut = {span.name for span in spans if span.worker == victim and span.try_number == 1}
    again = {span.name: span.start - killed.when for span in spans if span.try_number > 1}
    latest = max(again.values(), default=None)
    detected = known.when - killed.when if known else None
    checks = [
        Check("the worker ran tasks when it was killed", f"{len(cut)}", bool(cut) or None),
        Check("exactly those tasks start once more", f"{len(again)} of {len(cut)}", set(again) == cut),
        Check(f"the last of them within {SOON:g} s", told(latest), latest is not None and latest <= SOON),
        Check("the run succeeds", timeline.state, timeline.state == "success"),
    ]
    numbers = {
        "seconds until the loss is known": figures.rounded(detected),
        "seconds until the first task runs again": figures.rounded(min(again.values(), default=None)),
        "seconds until the last task runs again": figures.rounded(latest),
        "seconds with Airflow's defaults, computed, at least": float(TIMEOUT),
        "seconds with Airflow's defaults, computed, at most": float(TIMEOUT + INTERVAL),
    }
    return Finding(checks, numbers)


EXPERIMENT = Experiment(
    name="worker-loss",
    question="A worker dies with its tasks: who notices, and when do they run again?",
    prediction=f"The tasks of the killed worker, and no others, start a second try, all within {SOON:g} s.",
    measure=measure,
    judge=judge,
    mechanism="A killed worker says nothing. Airflow waits until a task has sent no heartbeat for 300 s, looks for such tasks every 10 s, "
    "and then fails the try. The lab's executor sees that the worker's process has ended, and fails its tasks at once, with that reason "
    "in the task's log. Whether another try follows is up to `retries`. Celery itself would deliver the message again only after the "
    "visibility timeout.",
    settings=(
        Setting("[scheduler] task_instance_heartbeat_timeout", "seconds of silence after which a task counts as lost (300)"),
        Setting("[scheduler] task_instance_heartbeat_timeout_detection_interval", "seconds between two looks for such tasks (10)"),
        Setting("[scheduler] task_instance_heartbeat_sec", "seconds between a task's heartbeats"),
        Setting("retries, retry_delay", "of a task: whether and when a lost try is followed by another"),
    ),
    next=(
        "Pause a worker instead, `./lab pause worker-default`: it has not ended, so its tasks run elsewhere only after 300 s.",
        "Kill a worker that runs a task with `retries=0`: the run fails, and the task's log has the reason.",
    ),
    seconds=40,
)
