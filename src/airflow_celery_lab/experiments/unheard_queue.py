"""A task on a queue to which no worker listens."""

from __future__ import annotations

import time

from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import WORKER, Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.inside_airflow.experiment_groups import Group

QUEUE = "experiment_unheard"
UNHEARD = "nobody listens, then somebody does"
#: Seconds for which nobody listens, those that a worker's start may take, and those in which a task starts when it listens.
NOBODY, START, SOON = 15.0, 20.0, 10.0
LISTENS = "seconds from the worker's start until it listens"


def measure(bench: Bench) -> Measurement:
    """Send tasks to a queue without a worker, and start one for it."""
    dag_id = "experiment_unheard_queue"
    limit = bench.cluster.settings.listener_timeout
    early = CannotTellError(
        f"LAB_LISTENER_TIMEOUT={limit:g} lets tasks fail before a worker is there for them; set it to {NOBODY + START:g} or more, or 0."
    )
    if limit and limit < NOBODY + START:
        raise early
    seen: dict[str, float] = {}

    def listen(run_id: str) -> None:
        bench.wait_for_tasks(dag_id, run_id, 2, "queued")
        bench.let_pass(NOBODY, "nobody listens")
        bench.did(f"{bench.cluster.broker.waiting(QUEUE)} messages wait in the queue after {NOBODY:g} s")
        start = time.monotonic()
        bench.start_workers(1, 2, QUEUE)
        seen[LISTENS] = time.monotonic() - start
        if limit and NOBODY + seen[LISTENS] >= limit:  # On a very busy machine.
            raise early

    return Measurement(Plan({"queue": QUEUE}), {UNHEARD: bench.run(dag_id, [Group("work", QUEUE, 1.0, 2)], listen)}, seen)


def judge(found: Measurement) -> Finding:
    """See whether anything ran before a worker listened."""
    timeline = found.parts[UNHEARD]
    added = figures.mark(timeline, f"added {WORKER.format(1)}")
    spans = figures.spans(timeline, "running")
    first = min((span.start for span in spans), default=None)
    if added is None:
        return Finding([Check("a worker is started for the queue", "it was not", None)], {})
    after = first - added.when if first is not None else None
    # Its answer to a ping may come after it has taken a task.
    late = None if after is None else max(0.0, after - found.seen[LISTENS])
    waited = figures.waited(timeline, "work")
    checks = [
        Check(
            "no task starts while nobody listens",
            f"the first one {told(after)} after the worker was started",
            after is not None and after > 0,
        ),
        Check(
            "no task fails for it",
            f"tries: {max((span.try_number for span in spans), default=0)}",
            bool(spans) and all(span.try_number == 1 for span in spans),
        ),
        Check(f"when one listens, a task starts within {SOON:g} s", told(late), late is not None and late <= SOON),
        Check("the run succeeds", timeline.state, timeline.state == "success"),
    ]
    return Finding(
        checks,
        {
            "seconds that a task waited (median)": figures.rounded(waited),
            LISTENS: figures.rounded(found.seen[LISTENS]),
            "seconds from the worker's start to the first task": figures.rounded(after),
        },
    )


EXPERIMENT = Experiment(
    name="unheard-queue",
    question="What becomes of a task whose queue no worker listens to for a while?",
    prediction="It waits, without a failure, and starts when a worker listens there.",
    measure=measure,
    judge=judge,
    mechanism="Airflow puts the message into the list of that name in Redis, which makes a list when it is first used. So no name is refused, "
    "also not a misspelt one. With its defaults Airflow sends the task again after 600 s, twice, and then fails it. The lab fails it "
    "after `LAB_LISTENER_TIMEOUT`, with the reason; before that, `./lab status` and `./lab run` say that nobody listens.",
    settings=(
        Setting("LAB_LISTENER_TIMEOUT", "seconds without a listener after which the lab fails a task (40; 0: it waits)"),
        Setting("[scheduler] task_queued_timeout", "seconds after which a queued task is sent again (600; 86400 in the lab)"),
        Setting("[scheduler] num_stuck_in_queued_retries", "how often before it fails (2)"),
        Setting("airflow celery worker --queues", "the queues that a worker listens to"),
    ),
    next=("Misspell a queue in a DAG of your own, run it, and look at `./lab status` and at Flower: which of the two names the mistake?",),
    seconds=35,
)
