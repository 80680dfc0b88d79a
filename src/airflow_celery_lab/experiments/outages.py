"""Redis, Postgres or the api-server is away while tasks run, wait and come due."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_celery_lab.experiments import figures
from airflow_celery_lab.experiments.bench import Bench
from airflow_celery_lab.experiments.experiment import Check, Experiment, Finding, Measurement, Plan, Setting
from airflow_celery_lab.experiments.figures import told
from airflow_celery_lab.experiments.worker_line import QUEUE, WorkerLine
from airflow_celery_lab.inside_airflow.experiment_groups import Group
from airflow_celery_lab.timeline.spans import Span, Timeline

#: Tasks that run when it goes, which end while it is away; those that wait behind them; and one whose wait with the triggerer
#: is over in the meantime, and that has a worker of its own, which is free.
RUNS, WAITS, DUE = "runs", "waits", "due"
#: Seconds of each, and how many.
SECONDS, NUMBER = {RUNS: 8.0, WAITS: 1.0, DUE: 5.0}, {RUNS: 2, WAITS: 2, DUE: 1}
#: The queue of what comes due.
OTHER = f"{QUEUE}_due"
#: Seconds for which it is away: longer than what runs.
AWAY = 12.0
#: Seconds in which all that has waited begins, at most, when all of the lab is ready again. How long that takes is up to the machine.
SOON = 10.0
READY = "seconds from its start until all of the lab is ready"
#: What runs, what waits for a slot, and what comes due.
GROUPS = (
    Group(DUE, OTHER, SECONDS[DUE], NUMBER[DUE], priority=3, deferred=True),
    Group(RUNS, QUEUE, SECONDS[RUNS], NUMBER[RUNS], priority=2),
    Group(WAITS, QUEUE, SECONDS[WAITS], NUMBER[WAITS]),
)
#: Tasks that begin after it.
EXPECTED = NUMBER[WAITS] + NUMBER[DUE]


@dataclass(frozen=True)
class Outage:
    """What is away, and what is predicted."""

    kind: str  #: of process, as `Service` has it
    part: str

    def measure(self, bench: Bench) -> Measurement:
        """Let tasks run, wait and come due while it is away."""
        names = bench.names_of(self.kind)
        bench.run_workers(WorkerLine(NUMBER[RUNS]), WorkerLine(1, OTHER))
        dag_id = f"experiment_without_{self.kind.replace('-', '_')}"
        seen: dict[str, float] = {}

        def take_away(run_id: str) -> None:
            bench.wait_for_tasks(dag_id, run_id, NUMBER[DUE], "deferred")
            bench.wait_for_tasks(dag_id, run_id, NUMBER[RUNS])
            seen[READY] = bench.take_away(names, AWAY)

        return Measurement(Plan({"away": ", ".join(names)}), {self.part: bench.run(dag_id, GROUPS, take_away)}, seen)

    def judge(self, found: Measurement) -> Finding:
        """See what ended and began while it was away, and what came after it."""
        timeline, name = found.parts[self.part], found.plan.names["away"]
        stop, start = figures.mark(timeline, f"stop {name}"), figures.mark(timeline, f"start {name}")
        if stop is None or start is None:
            return Finding([Check(f"{name} is away for a while", "it was not", None)], {})
        down, up = stop.when, start.when
        after = begun_after(timeline, down, up)
        late = max(after, default=0.0) - found.seen.get(READY, 0.0)
        begins = Check(
            f"all {EXPECTED} that have waited begin, the last at most {SOON:g} s after the lab is ready again",
            f"{len(after)} of {EXPECTED}, the last {told(abs(late))} {'after' if late > 0 else 'before'} that",
            len(after) == EXPECTED and late <= SOON,
        )
        numbers = {
            "seconds away": figures.rounded(up - down),
            "seconds from its start until the first task begins": figures.rounded(min(after, default=None)),
            "seconds from its start until the last task begins": figures.rounded(max(after, default=None)),
            READY: figures.rounded(found.seen.get(READY)),
        }
        return Finding(checks(timeline, down, up, f"while {name} is away", begins), numbers)


def checks(timeline: Timeline, down: float, up: float, meanwhile: str, begins: Check) -> list[Check]:
    """Return what is asked of the tasks of GROUPS where something was away from `down` to `up`, in seconds since the epoch."""
    held = figures.spans(timeline, "running", RUNS)
    ended = sum(down < timeline.until(span) < up and span.state == "success" for span in held)
    early = sorted(span.name for span in _later(timeline, down) if span.start < up)
    return [
        Check(
            f"the {NUMBER[RUNS]} tasks that run go on, and end {meanwhile}",
            f"{ended} of {NUMBER[RUNS]}",
            ended == len(held) == NUMBER[RUNS],
        ),
        Check("nothing else begins meanwhile", f"{', '.join(early)} did" if early else "nothing did", not early),
        begins,
        Check("no task runs twice", *repeated(timeline)),
        Check("the run succeeds", timeline.state, timeline.state == "success"),
    ]


def begun_after(timeline: Timeline, down: float, up: float) -> list[float]:
    """Return the seconds from `up` until each task began that had waited or come due since `down`, of those that began after it."""
    return [span.start - up for span in _later(timeline, down) if span.start >= up]


def _later(timeline: Timeline, down: float) -> list[Span]:
    return [span for span in figures.spans(timeline, "running", WAITS, DUE) if span.start > down]


def repeated(timeline: Timeline) -> tuple[str, bool]:
    """Return which tasks ran twice, and whether none did."""
    again = sorted({span.name for span in timeline.of_kind("running") if span.try_number > 1})
    return (f"{', '.join(again)} did" if again else "none did"), not again


BROKER = Outage("redis", "without Redis")
DATABASE = Outage("postgres", "without Postgres")
API_SERVER = Outage("api-server", "without the api-server")

#: How long a task tries to reach the api-server, or the database behind it.
REACHING_THE_API_SERVER = (
    Setting("[workers] execution_api_retries", "attempts of a task to reach the api-server (5; 100 in the lab)"),
    Setting("[workers] execution_api_retry_wait_max", "seconds between two of them, at most (90; 5 in the lab)"),
)

EXPERIMENTS = (
    Experiment(
        name="broker-outage",
        question="Redis is away for a while: what becomes of tasks that run, and of those that wait?",
        prediction="Those that run end as if nothing had happened. Nothing new begins until Redis is back; then all that has waited begins, "
        "and no task is lost or runs twice.",
        measure=BROKER.measure,
        judge=BROKER.judge,
        mechanism="A worker needs the broker to get tasks, and not to run them: a task reports to the api-server. What waits lies in Redis, "
        "which keeps it on disk (`appendonly`), so it is there when Redis is back. Workers connect again by themselves; each attempt "
        "comes two seconds later than the one before. A task that comes due meanwhile cannot be sent. Airflow fails its try at the first "
        "refused connection; the lab's executor keeps it, and sends it when Redis answers.",
        settings=(
            Setting("appendonly yes", "of Redis: each message is on disk within a second"),
            Setting("broker_connection_retry, broker_connection_max_retries", "of Celery: a worker tries again, 100 times"),
            Setting(
                "[celery] task_publish_max_retries", "attempts to send a task after a time-out, but not after a refused connection (3)"
            ),
        ),
        next=("`./lab experiment lose-messages`: Redis forgets what it had not written to disk, and the lab sends it again.",),
        seconds=50,
    ),
    Experiment(
        name="database-outage",
        question="Postgres is away for a while: what becomes of tasks that run, and of those that wait?",
        prediction="Those that run go on, and report their end when Postgres is back. Nothing new begins until then; afterwards all that has waited "
        "begins, and no task is lost or runs twice.",
        measure=DATABASE.measure,
        judge=DATABASE.judge,
        mechanism="Tasks have no connection to the database: they talk to the api-server. Its answer is an error now, so they ask "
        "again. A task that has ended keeps its slot until it has reported its end; so nothing takes the slot. The scheduler cannot work "
        "without its database; where it ends for that, it is started again.",
        settings=(
            *REACHING_THE_API_SERVER,
            Setting(
                "[database] sql_alchemy_pool_pre_ping",
                "tests a connection before its use, so that a restart of Postgres is survived (True)",
            ),
        ),
        next=("`./lab logs scheduler -n 200` afterwards: what the scheduler said while Postgres was away.",),
        seconds=50,
    ),
    Experiment(
        name="api-server-outage",
        question="The api-server is away for a while: what becomes of tasks that run, and of one that is about to start?",
        prediction="Those that run go on, and report their end when it is back. One that is about to start waits in its slot, and begins then. "
        "No task is lost or runs twice.",
        measure=API_SERVER.measure,
        judge=API_SERVER.judge,
        mechanism="From Airflow 3 on a task asks the api-server for all that it needs: whether it may start, connections, variables, XComs; and "
        "it reports its heartbeats and its end there. Where that fails, it tries again, longer each time. If it gives up before "
        "the api-server is back, the task fails; and if the scheduler hears nothing of it for 300 s, too.",
        settings=(
            *REACHING_THE_API_SERVER,
            Setting("[scheduler] task_instance_heartbeat_timeout", "seconds of silence after which a task counts as lost (300)"),
        ),
        next=("`AIRFLOW__WORKERS__EXECUTION_API_RETRIES=2` in `.env`, `./lab apply`, and run this again: tasks give up sooner.",),
        seconds=60,
    ),
)
