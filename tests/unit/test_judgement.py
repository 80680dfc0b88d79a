from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from airflow_celery_lab.cluster import judgement as status
from airflow_celery_lab.cluster.autoscaled import Autoscaled
from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import Evidence, Job, ProcessStatus
from airflow_celery_lab.cluster.link_status import LinkStatus
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import procfile, services
from airflow_celery_lab.configuration.services import Service
from airflow_celery_lab.launcher.registry import Record

STARTED = 1000.0
LINES = procfile.parse(
    """
postgres: ./lab exec postgres
redis: ./lab exec redis
webserver: ./lab exec airflow api-server
scheduler: ./lab exec airflow scheduler
dag-processor: ./lab exec airflow dag-processor
triggerer: ./lab exec airflow triggerer
flower: ./lab exec celery flower
worker-a: ./lab exec airflow celery worker --queues a,b
mine: ./lab exec sh -c true
"""
)
EXPECTED: Mapping[str, Service] = procfile.services_of(procfile.instances(LINES))


def record(name: str, command: str, **changes: Any) -> Record:
    return Record(name, 10, 11, command.removeprefix("./lab exec ").split(), "honcho", "running", "", STARTED)._replace(**changes)


RECORDS = {line.name: record(line.name, line.command) for line in LINES}
ALL_WELL = Evidence(
    records=RECORDS,
    postgres=None,
    redis=None,
    health={component: {"status": "healthy"} for component in ("metadatabase", "scheduler", "dag_processor", "triggerer")},
    workers=[Worker("worker-a", ["a", "b"], 4, 0)],
    queues=[Queue("a", 0, ["worker-a"]), Queue("b", 0, ["worker-a"])],
    flower=["worker-a"],
    jobs=[Job(kind, kind, STARTED + 3, STARTED + 8) for kind in ("scheduler", "dag-processor", "triggerer")],
)


def judged(name: str, evidence: Evidence) -> ProcessStatus:
    return next(process for process in status.judge(EXPECTED, evidence).processes if process.name == name)


def health_with(component: str, report: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    assert not isinstance(ALL_WELL.health, str)
    return {**ALL_WELL.health, component: report}


def test_a_lab_is_ready_when_everything_has_been_confirmed() -> None:
    now = status.judge(EXPECTED, ALL_WELL)

    assert now.ready
    assert now.not_ready == []
    assert now.warnings == []
    assert [process.name for process in now.processes] == list(EXPECTED)
    assert {process.reason for process in now.processes} == {""}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_a_lab_is_not_ready_while_one_process_does_not_run(name: str) -> None:
    records = {other: kept for other, kept in RECORDS.items() if other != name}

    now = status.judge(EXPECTED, replace(ALL_WELL, records=records))

    assert not now.ready
    process = next(process for process in now.processes if process.name == name)
    assert (process.state, process.pid, process.reason) == ("stopped", None, "not running")


@pytest.mark.parametrize(
    ("name", "evidence", "reason"),
    [
        ("postgres", replace(ALL_WELL, postgres="Postgres on port 1: starting up"), "Postgres on port 1: starting up"),
        ("redis", replace(ALL_WELL, redis="Redis on port 1: no answer"), "Redis on port 1: no answer"),
        ("scheduler", replace(ALL_WELL, health="the api-server does not answer yet"), "the api-server does not answer yet"),
        (
            "scheduler",
            replace(ALL_WELL, health=health_with("scheduler", {"status": "unhealthy"})),
            "Airflow reports scheduler as unhealthy",
        ),
        ("webserver", replace(ALL_WELL, health={}), "Airflow reports metadatabase as missing"),
        ("dag-processor", replace(ALL_WELL, health=health_with("dag_processor", {})), "Airflow reports dag_processor as missing"),
        (
            "triggerer",
            replace(ALL_WELL, health=health_with("triggerer", {"status": None})),
            "Airflow reports triggerer as missing",
        ),
        ("worker-a", replace(ALL_WELL, workers=[Worker("worker-a", ["a"], 4, 0)]), "does not listen on b"),
        ("worker-a", replace(ALL_WELL, workers=[Worker("worker-a", [], 4, 0)]), "does not listen on a, b"),
        ("worker-a", replace(ALL_WELL, workers=[Worker("worker-b", ["a", "b"], 4, 0)]), "does not answer a Celery ping yet"),
        ("flower", replace(ALL_WELL, flower="Flower does not answer: refused"), "Flower does not answer: refused"),
        ("flower", replace(ALL_WELL, flower=[]), "does not list worker-a yet"),
    ],
)
def test_a_process_is_not_ready_while_its_proof_is_missing(name: str, evidence: Evidence, reason: str) -> None:
    process = judged(name, evidence)

    assert (process.state, process.ready, process.reason) == ("running", False, reason)
    assert not status.judge(EXPECTED, evidence).ready


def test_an_empty_answer_of_the_workers_is_no_readiness() -> None:
    now = status.judge({"worker-a": EXPECTED["worker-a"]}, replace(ALL_WELL, records={"worker-a": RECORDS["worker-a"]}, workers=[]))

    assert not now.ready
    assert now.processes[0].reason == "does not answer a Celery ping yet"


def test_a_worker_may_listen_on_more_queues_than_its_line_names() -> None:
    assert judged("worker-a", replace(ALL_WELL, workers=[Worker("worker-a", ["a", "b", "extra"], 4, 0)])).ready


COMPONENTS = ["scheduler", "dag-processor", "triggerer"]


def with_job(job: Job, records: Mapping[str, Record] = RECORDS) -> Evidence:
    return replace(ALL_WELL, records=records, jobs=[job, *(other for other in ALL_WELL.jobs if other.kind != job.kind)])


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize(
    "job",
    [
        Job("", "", STARTED - 30, STARTED - 0.1),
        Job("", "", STARTED - 30, STARTED + 9),  # It was killed, and its last heartbeat came late.
        Job("", "", STARTED + 3, STARTED + 2.9),
    ],
    ids=["its predecessor's", "of a predecessor that is not gone yet", "from before its loop began"],
)
def test_only_a_heartbeat_of_this_life_and_from_the_loop_proves_a_component(name: str, job: Job) -> None:
    evidence = with_job(job._replace(kind=name, name=name))

    assert judged(name, evidence).reason == "no heartbeat since it was started"
    assert [process.name for process in status.judge(EXPECTED, evidence).not_ready] == [name]


@pytest.mark.parametrize("name", COMPONENTS)
def test_after_a_start_of_postgres_a_component_has_to_send_a_heartbeat_to_it(name: str) -> None:
    records = {**RECORDS, "postgres": RECORDS["postgres"]._replace(since=STARTED + 60)}
    before, after = Job(name, name, STARTED + 3, STARTED + 59), Job(name, name, STARTED + 3, STARTED + 61)

    assert judged(name, with_job(before, records)).reason == "no heartbeat since Postgres was started"
    assert judged(name, with_job(after, records)).ready


def test_each_of_two_schedulers_is_proven_by_its_own_heartbeat() -> None:
    second = record("scheduler-2", "./lab exec airflow scheduler")
    evidence = replace(ALL_WELL, records={**RECORDS, "scheduler-2": second})

    assert [process.name for process in status.judge(EXPECTED, evidence).not_ready] == ["scheduler-2"]
    both = replace(evidence, jobs=[*evidence.jobs, Job("scheduler", "scheduler-2", STARTED + 3, STARTED + 8)])
    assert status.judge(EXPECTED, both).ready


def test_a_scheduler_under_a_hostname_of_the_users_own_is_proven_while_it_is_alone() -> None:
    assert judged("scheduler", with_job(Job("scheduler", "laptop.test", STARTED + 3, STARTED + 8))).ready


def test_flower_need_not_list_a_worker_that_does_not_run() -> None:
    records = {name: kept for name, kept in RECORDS.items() if name != "worker-a"}

    assert judged("flower", replace(ALL_WELL, records=records, flower=[])).ready


@pytest.mark.parametrize(
    ("state", "reason", "shown"),
    [("waiting", "Postgres on port 1: refused", "Postgres on port 1: refused"), ("waiting", "", "waiting"), ("stopping", "", "stopping")],
)
def test_a_process_that_does_not_run_yet_or_any_more_is_not_ready(state: str, reason: str, shown: str) -> None:
    records = {**RECORDS, "scheduler": RECORDS["scheduler"]._replace(state=state, reason=reason, main_pid=0)}

    process = judged("scheduler", replace(ALL_WELL, records=records))

    assert (process.state, process.ready, process.reason, process.pid) == (state, False, shown, 10)


def test_a_running_process_is_shown_with_the_pid_of_its_program_and_its_memory() -> None:
    process = judged("redis", replace(ALL_WELL, memory={"redis": 12.5}))

    assert (process.pid, process.memory_mb) == (11, 12.5)


def test_a_process_that_runs_beyond_the_procfile_has_to_be_ready_too() -> None:
    extra = record("worker-a-2", "./lab exec airflow celery worker --queues a,b")
    evidence = replace(ALL_WELL, records={**RECORDS, "worker-a-2": extra})

    assert {process.name: process.reason for process in status.judge(EXPECTED, evidence).not_ready} == {
        "flower": "does not list worker-a-2 yet",
        "worker-a-2": "does not answer a Celery ping yet",
    }


def test_a_process_of_the_users_own_is_ready_when_it_runs() -> None:
    own = {"mine": services.describe(["sh"])}

    assert status.judge(own, replace(ALL_WELL, records={"mine": RECORDS["mine"]})).ready


@pytest.mark.parametrize(
    ("supervised", "records", "state"),
    [
        ({"own": "RUNNING"}, {}, "running"),
        ({"own": "STARTING"}, {}, "running"),
        ({"own": "FATAL"}, {}, "stopped"),
        ({"own": "STOPPED"}, RECORDS, "stopped"),
        ({}, RECORDS, "running"),  # honcho would have ended all.
        ({}, {}, "stopped"),
    ],
)
def test_a_process_without_a_launcher_runs_when_its_supervisor_says_so(
    supervised: Mapping[str, str], records: Mapping[str, Record], state: str
) -> None:
    expected = {"own": services.without_launcher()}

    (own, *_) = status.judge(expected, replace(ALL_WELL, records=records, supervised=supervised)).processes

    assert (own.state, own.ready) == (state, state == "running")


@pytest.mark.parametrize(
    ("queues", "beginnings"),
    [
        ([Queue("gpu", 1, [])], ["1 task waits on the queue 'gpu', which no worker listens to: "]),
        ([Queue("gpu", 3, [])], ["3 tasks wait on the queue 'gpu', which no worker listens to: "]),
        ([Queue("gpu", 0, [])], []),
        ([Queue("gpu", 5, ["worker-a"])], []),
    ],
)
def test_tasks_on_a_queue_without_listener_are_warned_of(queues: Sequence[Queue], beginnings: Sequence[str]) -> None:
    now = status.judge(EXPECTED, replace(ALL_WELL, queues=queues))

    assert len(now.warnings) == len(beginnings)
    assert all(warning.startswith(beginning) for warning, beginning in zip(now.warnings, beginnings, strict=True))
    assert now.ready


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"paused": ["worker-a"]},
            "whose worker worker-a is stopped like a hung machine: `airflow-celery-lab resume worker-a` lets it go on",
        ),
        ({}, "whose worker worker-a runs and does not answer: see its log, or `airflow-celery-lab restart worker-a`"),
        ({"records": {}}, "which no worker listens to: add it to"),
    ],
)
def test_a_worker_that_is_stopped_or_hangs_listens_still(changes: Mapping[str, Any], reason: str) -> None:
    records = {**RECORDS, "worker-a": RECORDS["worker-a"]._replace(queues=["a", "b"])}
    silent = replace(ALL_WELL, records=records, workers=[], queues=[Queue("a", 2, [])])

    (warning,) = status.judge(EXPECTED, replace(silent, **changes)).warnings

    assert warning.startswith(f"2 tasks wait on the queue 'a', {reason}")


FRAME = (
    'Traceback (most recent call last):\n  File "<frozen importlib>", line 241, in call\n  File "/dags/a.py", line 3, in <module>\n    x\n'
)


@pytest.mark.parametrize(
    ("trace", "reason"),
    [
        ("", "no reason given"),
        ("\n", "no reason given"),
        (f"{FRAME}NameError: name 'x' is not defined\n", "NameError: name 'x' is not defined (line 3)"),
        (f"{FRAME}ValueError: the first line\nof a long message\nhttps://docs.test/why\n", "ValueError: the first line (line 3)"),
        (
            f"{FRAME}airflow.exceptions.AirflowTaskTimeout: DagBag import timeout.\nPlease see:\n* https://x.test, PID: 5\n",
            "airflow.exceptions.AirflowTaskTimeout: DagBag import timeout. (line 3)",
        ),
        ("AirflowDagDuplicatedIdException: two\nmore", "AirflowDagDuplicatedIdException: two"),
    ],
)
def test_a_dag_file_that_cannot_be_read_is_warned_of_with_its_exception_and_the_line(trace: str, reason: str) -> None:
    broken = replace(ALL_WELL, import_errors=[{"filename": "dags/broken.py", "stack_trace": trace}])

    assert status.judge(EXPECTED, broken).warnings == [f"the DAG file dags/broken.py cannot be read: {reason}"]


@pytest.mark.parametrize(
    ("files", "beginning"),
    [
        (["a.py", "b.py"], "the DAG 'd' stands in a.py and in b.py: "),
        (["a.py", "b.py", "c.py"], "the DAG 'd' stands in a.py, b.py and in c.py: "),
    ],
)
def test_a_dag_in_more_than_one_file_is_warned_of_with_the_files(files: Sequence[str], beginning: str) -> None:
    (warning,) = status.judge(EXPECTED, replace(ALL_WELL, shared_ids={"d": files})).warnings

    assert warning.startswith(beginning)


def test_flower_need_not_list_a_worker_that_runs_a_task_itself_and_so_answers_nobody() -> None:
    evidence = replace(ALL_WELL, flower=[])

    assert not judged("flower", evidence).ready
    assert judged("flower", replace(evidence, busy=["worker-a"])).ready


def test_the_json_of_a_status_names_its_fields() -> None:
    data = status.judge(EXPECTED, ALL_WELL).as_json()

    assert set(data) == {"ready", "processes", "workers", "queues", "warnings", "autoscaled", "links", "exposed"}
    assert set(data["processes"][0]) == {"name", "kind", "state", "pid", "ready", "reason", "memory_mb"}
    assert data["workers"] == [{"name": "worker-a", "queues": ["a", "b"], "concurrency": 4, "running": 0}]
    assert data["queues"][0] == {"name": "a", "waiting": 0, "listeners": ["worker-a"]}


def test_a_process_that_somebody_knows_to_have_failed_is_shown_with_the_reason() -> None:
    records = {name: kept for name, kept in RECORDS.items() if name != "redis"}

    process = judged("redis", replace(ALL_WELL, records=records, failures={"redis": "ended with status 1"}))

    assert (process.state, process.ready, process.reason) == ("failed", False, "ended with status 1")


def test_a_paused_process_is_not_ready_whatever_was_heard_of_it() -> None:
    process = judged("worker-a", replace(ALL_WELL, paused=["worker-a"]))

    assert (process.state, process.ready) == ("paused", False)
    assert process.reason.startswith("paused")


def test_a_procfile_that_is_not_what_runs_is_warned_of() -> None:
    (warning,) = status.judge(EXPECTED, replace(ALL_WELL, procfile_differs=True)).warnings

    assert warning.startswith("the Procfile differs from what runs")


@pytest.mark.parametrize(
    ("parallelism", "pool", "beginnings"),
    [
        ([32], 128, ["the workers have 40 slots, and the scheduler runs 32 tasks at a time: raise AIRFLOW__CORE__PARALLELISM if"]),
        ([40], None, []),
        ([32, 32], 128, []),
        ([0], 128, []),  # Only Airflow knows, as with a command that prints the number.
        (
            [64],
            39,
            ["the workers have 40 slots, and Airflow's default_pool lets 39 tasks run at a time: `airflow-celery-lab airflow pools"],
        ),
    ],
)
def test_slots_that_airflow_would_never_fill_are_warned_of_with_both_numbers(
    parallelism: Sequence[int], pool: int | None, beginnings: Sequence[str]
) -> None:
    schedulers = {
        f"s-{number}": RECORDS["scheduler"]._replace(name=f"s-{number}", parallelism=most) for number, most in enumerate(parallelism)
    }
    evidence = replace(ALL_WELL, records={**RECORDS, **schedulers}, pool=pool, workers=[Worker("worker-a", ["a", "b"], 40, 0)])

    warnings = status.judge(EXPECTED, evidence).warnings

    assert [warning[: len(beginning)] for warning, beginning in zip(warnings, beginnings, strict=True)] == list(beginnings)


def test_processes_that_lack_the_same_are_named_together() -> None:
    records = {name: kept for name, kept in RECORDS.items() if name == "redis"}
    late = status.judge(EXPECTED, replace(ALL_WELL, records=records, health="no answer")).not_ready

    assert len(late) > 2
    assert status.lacking(late) == f"{', '.join(process.name for process in late)}: not running"


@pytest.mark.parametrize(
    ("records", "advice"),
    [
        (RECORDS, "Ctrl-C, then start it again"),
        (
            {name: kept._replace(supervisor="supervisord") for name, kept in RECORDS.items()},
            "`airflow-celery-lab down`, then `airflow-celery-lab up -d`",
        ),
        ({}, "stop the other lab of this checkout"),
    ],
)
def test_a_python_environment_that_waits_is_told_with_what_makes_the_lab_use_it(records: Mapping[str, Record], advice: str) -> None:
    now = status.judge(EXPECTED, replace(ALL_WELL, records=records, newer_environment=True))

    assert now.warnings == [f"what the Python environment is made from has changed, and a newer one waits: {advice}"]


def test_a_worker_that_its_autoscaler_drains_is_no_fault() -> None:
    silent = replace(ALL_WELL, workers=[Worker("worker-a", [], 4, 2)])
    line = Autoscaled("worker-a", 0, 2, 0, 1, "no tasks on 4 slots a worker", "worker-a", "autoscaler", 7)

    now = status.judge(EXPECTED, replace(silent, autoscaled=[line]))

    assert (now.ready, now.autoscaled) == (True, [line])
    assert next(process.state for process in now.processes if process.name == "worker-a") == "draining"
    assert now.as_json()["autoscaled"][0]["why"] == "no tasks on 4 slots a worker"
    assert not status.judge(EXPECTED, replace(silent, autoscaled=[line._replace(draining="")])).ready


def test_a_link_that_is_slow_or_cut_is_told_and_so_are_workers_that_it_strands() -> None:
    links = [LinkStatus("redis", 0.2, cut=False, condition="slow"), LinkStatus("postgres", 0.0, cut=False, condition="clean")]
    worker = RECORDS["worker-a"]._replace(queues=("a", "b"), linked=True)
    carrier = record("links", "./lab exec links")
    evidence = replace(ALL_WELL, records={**RECORDS, "worker-a": worker, "links": carrier}, links=links, links_held=True)

    now = status.judge(EXPECTED, evidence)

    assert (now.ready, now.warnings) == (True, [f"the workers' link to redis is slow: `{typed()} heal redis` makes it clean"])
    assert now.as_json()["links"][0] == {"server": "redis", "delay": 0.2, "cut": False, "condition": "slow"}
    assert judged("links", replace(evidence, links_held=False)).reason == "it has not taken in how the links are"
    stranded = status.judge(EXPECTED, replace(evidence, records={**RECORDS, "worker-a": worker})).warnings
    cut = [LinkStatus("redis", 0.0, cut=True, condition="cut")]
    waits = status.judge(EXPECTED, replace(evidence, workers=[], queues=[Queue("a", 2, [])], links=cut)).warnings
    assert f"2 tasks wait on the queue 'a', whose worker worker-a does not reach Redis: `{typed()} heal redis` lets it take them" in waits
    assert any("which does not run, reach no server (worker-a): " in warning for warning in stranded)
    astray = status.judge(EXPECTED, replace(evidence, links=[], astray=["worker-a"])).warnings
    assert astray == [f"workers that still go through links: worker-a; `{typed()} heal --off` starts them again without"]


def test_a_forkserver_is_ready_when_it_has_imported_airflow() -> None:
    evidence = replace(ALL_WELL, records={**RECORDS, "forkserver": record("forkserver", "forkserver")})

    assert judged("forkserver", evidence).ready
    assert judged("forkserver", replace(evidence, forkserver=False)).reason == "it imports Airflow"


def test_a_gateway_is_ready_when_it_answers_on_the_exposed_address_or_has_to_wait_for_that() -> None:
    exposed = status.Exposed("10.0.0.1", {"redis": "rediss://10.0.0.1:1"}, there=True)
    evidence = replace(ALL_WELL, records={**RECORDS, "gateway": record("gateway", "gateway")}, exposed=exposed)

    assert judged("gateway", evidence).ready
    assert judged("gateway", replace(evidence, gateway="10.0.0.1:1: refused")).reason == "10.0.0.1:1: refused"
    (warning,) = status.judge(EXPECTED, replace(evidence, exposed=exposed._replace(there=False))).warnings
    assert warning.startswith("the lab is exposed on 10.0.0.1, which this machine does not have now")
