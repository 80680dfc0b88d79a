"""A task that runs for longer than the broker's visibility timeout is delivered a second time."""

from __future__ import annotations

from contextlib import suppress

from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import WORKER, Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Timeline
from airflow_celery_lab.wait import wait_until

#: Seconds of the timeout in the first and in the second part, and of a task, which outlasts the short one.
DAY, TIMEOUT, SECONDS = 86400, 4, 12.0
LONG, SHORT = "a timeout of a day", f"a timeout of {TIMEOUT} s"
TASKS = 2
OPTION = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__"
#: Where the experiment's own workers keep what they have not acknowledged. All consumers of a Redis share these keys, and each
#: sends again what is older than its own timeout, also what another one has taken: a short one would concern all tasks of the lab.
KEYS = {
    "UNACKED_KEY": "experiment_unacked",
    "UNACKED_INDEX_KEY": "experiment_unacked_index",
    "UNACKED_MUTEX_KEY": "experiment_unacked_mutex",
}
#: kombu looks every 100 s for what is to be sent again; here every second.
LOOKS = {"UNACKED_RESTORE_INTERVAL": "1", "UNACKED_RESTORE_THROTTLE": "1"}


def measure(bench: Bench) -> Measurement:
    """Run tasks on two workers with each timeout, and count the messages that these have given to their slots."""
    bench.leave_no_key(*KEYS.values())
    parts: dict[str, Timeline] = {}
    seen: dict[str, float] = {}
    # A second delivery that takes longer than the timeout, as on a busy machine, is followed by a third one.
    for part, timeout in {LONG: DAY, SHORT: TIMEOUT}.items():
        options = {"VISIBILITY_TIMEOUT": f"{timeout}", **KEYS, **LOOKS}
        bench.run_workers(*[WorkerLine(TASKS, variables={OPTION + name: value for name, value in options.items()})] * 2)
        dag_id = f"experiment_timeout_of_{timeout}"

        def wait(run_id: str, dag_id: str = dag_id) -> None:
            bench.wait_for_tasks(dag_id, run_id, TASKS)
            with suppress(NotReadyError):
                seconds = wait_until(lambda: None if _begun(bench) > TASKS else "once", SECONDS, "a second delivery", interval=0.5)
                bench.did(f"a message was delivered again, {seconds:.1f} s after all tasks ran")

        parts[part] = bench.run(dag_id, [Group("work", QUEUE, SECONDS, TASKS)], wait)
        seen[part] = _begun(bench)
    return Measurement(Plan(), parts, seen)


def _begun(bench: Bench) -> int:
    begun = bench.cluster.broker.begun(len(bench.cluster.slots()))
    return sum(begun.get(WORKER.format(number), 0) for number in (1, 2))


def judge(found: Measurement) -> Finding:
    """Compare deliveries with what ran."""
    stays = {part: figures.spans(timeline, "running") for part, timeline in found.parts.items()}
    least = min((found.parts[part].until(span) - span.start for part, spans in stays.items() for span in spans), default=0.0)
    states = {part: timeline.state for part, timeline in found.parts.items()}
    checks = [
        Check(
            "with a timeout of a day each message is delivered once",
            f"{found.seen[LONG]:g} deliveries of {TASKS} messages",
            found.seen[LONG] == TASKS,
        ),
        Check(
            f"with one of {TIMEOUT} s, at least twice",
            f"{found.seen[SHORT]:g} deliveries of {TASKS} messages",
            found.seen[SHORT] >= 2 * TASKS,
        ),
        Check(
            "each task runs once, and to its end",
            f"{' and '.join(str(len(spans)) for spans in stays.values())} runs of {TASKS} tasks, each for {least:.1f} s or longer",
            all(len(spans) == TASKS for spans in stays.values()) and least >= SECONDS,
        ),
        Check("the runs succeed", ", ".join(states.values()), set(states.values()) == {"success"}),
    ]
    numbers: dict[str, float | None] = {f"deliveries of {TASKS} messages, {part}": number for part, number in found.seen.items()}
    return Finding(checks, numbers)


EXPERIMENT = Experiment(
    name="visibility-timeout",
    question="What becomes of a task that runs for longer than the broker waits for its acknowledgement?",
    prediction=f"Its message is delivered again to another slot, {TIMEOUT} s after it was taken, while it runs. Airflow refuses the second start, and the "
    "task runs once, to its end. With the timeout of a day no message is delivered twice.",
    measure=measure,
    judge=judge,
    mechanism="Redis has no acknowledgements of its own. A worker notes in the key `unacked` what it has taken, and removes it when the task has "
    "ended. What stands there for longer than the visibility timeout counts as lost with its worker, and any consumer puts it back into "
    "its queue; kombu looks every 100 s. Celery would now run the task twice. With Airflow each start asks the api-server, which answers 409 to the "
    "second one, as the task runs already; the message is dropped. That costs the start of a process, and a slot for a moment. "
    "Airflow before 3.1.9 fails the task then. So the timeout has to be longer than the longest task.",
    settings=(
        Setting(
            "[celery_broker_transport_options] visibility_timeout",
            "seconds until a message is delivered again (86400; Celery's own default is 3600)",
        ),
        Setting(
            "unacked_restore_interval, unacked_restore_throttle",
            "of the same section: seconds between two looks for such messages, by a factor (10, 10)",
        ),
        Setting("[celery] task_acks_late", "without it a message is acknowledged when its task begins, and is not delivered again (True)"),
    ),
    next=("`./lab logs experiment-1` while it runs: the second delivery ends with `Task already running elsewhere`.",),
    seconds=60,
)
