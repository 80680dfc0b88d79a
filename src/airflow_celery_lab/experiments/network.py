"""The network between workers and servers is cut, or slow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from airflow_celery_lab.configuration.links import Condition
from airflow_celery_lab.experiments import figures, outages
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.outages import AWAY, DUE, EXPECTED, NUMBER, OTHER, RUNS, SOON
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Span, Timeline

REDIS, API_SERVER = "redis", "webserver"
CUT = "Redis out of reach"
#: The parts of `slow-link`, and seconds that an answer takes longer.
CLEAN, SLOW_REDIS, SLOW_API_SERVER = "clean links", "a slow link to Redis", "a slow link to the api-server"
LATER = 0.5
#: Its tasks, one after the other, and the seconds that each works.
TASK, TASKS, WORK = "work", 4, 1.0


def measure_cut(bench: Bench) -> Measurement:
    """Let tasks run, wait and come due while the workers do not reach Redis."""
    bench.carry_links()
    bench.run_workers(WorkerLine(NUMBER[RUNS]), WorkerLine(1, OTHER))
    dag_id = "experiment_network_cut"

    def cut(run_id: str) -> None:
        bench.wait_for_tasks(dag_id, run_id, NUMBER[DUE], "deferred")
        bench.wait_for_tasks(dag_id, run_id, NUMBER[RUNS])
        with bench.spoilt(REDIS, Condition(cut=True)):
            bench.let_pass(AWAY, "the link to redis is cut")

    return Measurement(Plan(), {CUT: bench.run(dag_id, outages.GROUPS, cut)})


def judge_cut(found: Measurement) -> Finding:
    """See what ended and began while Redis was out of reach, and what came after it."""
    timeline = found.parts[CUT]
    cut, healed = figures.mark(timeline, f"cut link to {REDIS}"), figures.mark(timeline, f"heal link to {REDIS}")
    if cut is None or healed is None:
        return Finding([Check("the link to redis is cut for a while", "it was not", None)], {})
    down, up = cut.when, healed.when
    after = outages.begun_after(timeline, down, up)
    begins = Check(
        f"all {EXPECTED} that have waited begin, the last at most {SOON:g} s after the link is healed",
        f"{len(after)} of {EXPECTED}, the last {told(max(after, default=None))} after that",
        len(after) == EXPECTED and max(after) <= SOON,
    )
    numbers = {
        "seconds for which the link was cut": figures.rounded(up - down),
        "seconds from its healing until the first task begins": figures.rounded(min(after, default=None)),
        "seconds from its healing until the last task begins": figures.rounded(max(after, default=None)),
    }
    return Finding(outages.checks(timeline, down, up, "while the link is cut", begins), numbers)


def measure_slow(bench: Bench) -> Measurement:
    """Run the same tasks, one after the other, over clean links, a slow one to Redis, and a slow one to the api-server."""
    bench.carry_links()
    bench.run_workers(WorkerLine(1))
    groups = [Group(TASK, QUEUE, WORK, TASKS)]

    def run(name: str) -> Timeline:
        return bench.run(f"experiment_slow_link_{name}", groups)

    parts = {CLEAN: run("none")}
    slow = Condition(delay=LATER / 2)
    with bench.spoilt(REDIS, slow):
        parts[SLOW_REDIS] = run(REDIS)
    with bench.spoilt(API_SERVER, slow):
        parts[SLOW_API_SERVER] = run(API_SERVER)
    return Measurement(Plan(), parts)


def judge_slow(found: Measurement) -> Finding:
    """Compare what lies between tasks, and how long each takes, with the same over clean links."""
    between = {name: _between(figures.spans(part, "running", TASK)) for name, part in found.parts.items()}
    takes = {name: _takes(part) for name, part in found.parts.items()}
    numbers = {
        **{f"seconds between two tasks, with {name} (median)": figures.rounded(seconds) for name, seconds in between.items()},
        **{f"seconds that a task of {WORK:g} s takes, with {name} (median)": figures.rounded(seconds) for name, seconds in takes.items()},
    }
    return Finding(
        [
            _longer("a slow link to Redis puts at least one answer's delay between two tasks", between, SLOW_REDIS, least=LATER),
            _longer("it makes no task longer", takes, SLOW_REDIS, most=LATER),
            _longer(
                "a slow link to the api-server makes each task longer, by at least one answer's delay", takes, SLOW_API_SERVER, least=LATER
            ),
            Check(
                "all tasks succeed, once each",
                ", ".join(sorted({part.state for part in found.parts.values()})),
                all(part.state == "success" and outages.repeated(part)[1] for part in found.parts.values()),
            ),
        ],
        numbers,
    )


def _longer(claim: str, seconds: dict[str, float | None], part: str, *, least: float | None = None, most: float | None = None) -> Check:
    with_it, without = seconds.get(part), seconds.get(CLEAN)
    if with_it is None or without is None:
        return Check(claim, "no tasks ran", None)
    more = with_it - without
    return Check(
        claim, f"{told(with_it)}, and {told(without)} over clean links", more >= least if least is not None else more < (most or 0.0)
    )


def _between(spans: Sequence[Span]) -> float | None:
    ordered = sorted(spans, key=lambda span: span.start)
    gaps = [later.start - earlier.end for earlier, later in pairwise(ordered) if earlier.end is not None]
    return median(gaps) if gaps else None


def _takes(timeline: Timeline) -> float | None:
    seconds = [timeline.until(span) - span.start for span in figures.spans(timeline, "running", TASK)]
    return median(seconds) if seconds else None


EXPERIMENTS = (
    Experiment(
        name="network-cut",
        question="Workers do not reach Redis for a while, as without a cable: what becomes of tasks that run, and of those that wait?",
        prediction="Those that run end as if nothing had happened. What waits, and what comes due, lies in Redis and is taken by nobody. When the link "
        "is healed, all of it begins, and no task is lost or runs twice.",
        measure=measure_cut,
        judge=judge_cut,
        mechanism="The scheduler reaches Redis, so what comes due is sent. A worker hears nothing, and is told of no error: its connections "
        "stand, and nothing gets across. Redis takes the first message of a queue out for a worker that has asked for one before the cut; "
        "it is on its way until the link is healed. The lab's executor gives up no task of a worker that lives and does not answer.",
        settings=(
            Setting("[celery_broker_transport_options] socket_timeout", "seconds that a worker waits for an answer of Redis (Celery: 120)"),
            Setting(
                "[celery_broker_transport_options] visibility_timeout",
                "seconds until Redis gives an unacknowledged message to another worker (86400)",
            ),
        ),
        next=(
            "`./lab cut webserver` and `./lab run parallel_tasks`: tasks wait in their slots for the api-server, until `./lab heal`.",
            "`./lab experiment broker-outage`: Redis itself is away, and every connection breaks.",
        ),
        seconds=40,
    ),
    Experiment(
        name="slow-link",
        question="What does a slow network cost a task: between workers and Redis, and between tasks and the api-server?",
        prediction="A slow link to Redis puts a pause between two tasks, and makes none longer. A slow link to the api-server makes each task longer.",
        measure=measure_slow,
        judge=judge_slow,
        mechanism="A worker speaks with Redis in one thread, and waits for each answer: it takes the message, notes that it has it, acknowledges it, "
        "and reports three events for Flower; its heartbeats and its answers to others come between. So the way to Redis counts "
        "many times for each task. A task itself asks the api-server: whether it may start, for what its code needs, and to report its end.",
        settings=(
            Setting("worker_send_task_events", "of Celery: three events of each task, which Flower shows (on in the lab)"),
            Setting("[celery] worker_prefetch_multiplier", "messages that a worker takes ahead for each slot (1)"),
            Setting("[workers] execution_api_retries", "attempts of a task to reach the api-server (5; 100 in the lab)"),
        ),
        next=("`./lab slow postgres 500ms` and `./lab run parallel_tasks`: a worker writes each result to Postgres.",),
        seconds=60,
    ),
)
