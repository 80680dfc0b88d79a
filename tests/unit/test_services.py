from __future__ import annotations

import configparser
import re
import shlex
import signal

import pytest

from airflow_celery_lab.configuration import services
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.errors import ProcfileError
from airflow_celery_lab.supervision import wanted


@pytest.mark.parametrize(
    ("command", "kind", "needs"),
    [
        ("postgres", "postgres", set()),
        ("redis", "redis", set()),
        ("airflow api-server", "api-server", {"postgres", "schema"}),
        ("airflow api-server --workers 2", "api-server", {"postgres", "schema"}),
        ("airflow scheduler", "scheduler", {"postgres", "schema"}),
        ("airflow dag-processor", "dag-processor", {"postgres", "schema"}),
        ("airflow triggerer --capacity 10", "triggerer", {"postgres", "schema"}),
        ("airflow celery worker", "worker", {"postgres", "redis", "schema"}),
        ("airflow celery flower", "flower", {"redis"}),
        ("celery flower", "flower", {"redis"}),
        ("celery --app x flower", "flower", {"redis"}),
        ("links", "links", set()),
        ("autoscale worker=1..6", "autoscaler", {"postgres", "redis", "schema"}),
        ("forkserver", "forkserver", set()),
        ("gateway", "gateway", set()),
        ("airflow dags list", "other", {"postgres", "redis", "schema"}),
        ("airflow", "other", {"postgres", "redis", "schema"}),
        ("celery beat", "other", {"postgres", "redis", "schema"}),
        ("python -m http.server", "other", set()),
    ],
)
def test_a_command_tells_what_it_is_and_needs(command: str, kind: str, needs: set[str]) -> None:
    service = services.describe(command.split())

    assert (service.kind, set(service.needs)) == (kind, needs)


def test_postgres_is_asked_for_its_fast_shutdown_and_all_others_to_end() -> None:
    assert services.describe(["postgres"]).stop_signal == signal.SIGINT
    others = ("redis", "airflow scheduler", "airflow celery worker", "celery flower", "sh")
    assert {services.describe(command.split()).stop_signal for command in others} == {signal.SIGTERM}


def test_the_api_server_outlives_the_workers_and_postgres_and_redis_outlive_all() -> None:
    commands = ("postgres", "redis", "airflow api-server", "airflow scheduler", "airflow celery worker", "celery flower", "sh")
    processes = {command: shlex.join(["lab", "exec", *command.split()]) for command in commands}

    assert wanted.stop_order(processes) == [
        ["airflow scheduler", "airflow celery worker", "celery flower", "sh"],
        ["airflow api-server"],
        ["postgres", "redis"],
    ]


def test_a_worker_line_without_queues_leaves_them_to_airflow() -> None:
    assert services.describe(["airflow", "celery", "worker"]).queues == ()


def test_a_worker_line_without_concurrency_leaves_it_to_the_configuration() -> None:
    config = configparser.ConfigParser(interpolation=None)
    config.read(CHECKOUT / "config" / "airflow.cfg")

    assert services.describe(["airflow", "celery", "worker"]).concurrency == 0
    assert config.getint("celery", "worker_concurrency") == services.DEFAULT_CONCURRENCY


@pytest.mark.parametrize(
    ("options", "queues", "concurrency"),
    [
        ("-q a,b", ("a", "b"), 0),
        ("-q=a", ("a",), 0),
        ("-qa,b", ("a", "b"), 0),
        ("--queues a", ("a",), 0),
        ("--queues=a,b", ("a", "b"), 0),
        ("-c 3", (), 3),
        ("-c3", (), 3),
        ("--concurrency 12", (), 12),
        ("--concurrency=12", (), 12),
        ("--concurrency 2 --queues high_cpu", ("high_cpu",), 2),
        ("-q a -q b", ("b",), 0),
        ("--verbose -q a --without-gossip -c 1", ("a",), 1),
        ("--autoscale 8,2 --concurrency 3", (), 8),
        ("-a8,2", (), 8),
        ("--queue a --conc 3", ("a",), 3),
        ("--celery-hostname x --skip-serve-logs", (), 0),
        ("-q team.a-b_c", ("team.a-b_c",), 0),
    ],
)
def test_worker_options_are_understood_in_every_spelling(options: str, queues: tuple[str, ...], concurrency: int) -> None:
    worker = services.describe(["airflow", "celery", "worker", *options.split()])

    assert (worker.queues, worker.concurrency) == (queues, concurrency)


@pytest.mark.parametrize("options", ["-q", "--queues", "-c", "--concurrency", "--queues --concurrency 2", "-q -c 2"])
def test_a_worker_option_without_its_value_is_refused(options: str) -> None:
    option = options.split(maxsplit=1)[0]

    with pytest.raises(ProcfileError, match=rf"^{option} of a worker needs a value; write for example `{option} "):
        services.describe(["airflow", "celery", "worker", *options.split()])


@pytest.mark.parametrize("option", ["--pool solo", "--pool=solo", "-P solo", "-Psolo"])
def test_the_pool_is_no_option_of_airflows_worker_and_the_key_for_it_is_named(option: str) -> None:
    with pytest.raises(
        ProcfileError, match=r"^Airflow's worker has no option -.*; set AIRFLOW__CELERY__POOL in .env, or before the command\.$"
    ):
        services.describe(["airflow", "celery", "worker", *option.split()])


@pytest.mark.parametrize(("value", "queue"), [("a,", ""), (",a", ""), ("a,,b", ""), ("a b", "a b"), ("a;b", "a;b"), ("", "")])
def test_what_is_no_queue_name_is_refused(value: str, queue: str) -> None:
    with pytest.raises(ProcfileError, match=rf"^{re.escape(repr(queue))} is not a queue name in `--queues {value}`; write names of"):
        services.describe(["airflow", "celery", "worker", "--queues", value])


@pytest.mark.parametrize("value", ["0", "x", "1.5", "10000", "+1"])
def test_what_is_no_number_of_slots_is_refused(value: str) -> None:
    with pytest.raises(ProcfileError, match=rf"^`-c {re.escape(value)}` is not a number of pool slots; write a whole number from 1\.$"):
        services.describe(["airflow", "celery", "worker", "-c", value])


@pytest.mark.parametrize(
    "line",
    [
        *("postgres -c max_connections=60", "postgres -cport=1", "postgres --listen-addresses=*", "postgres -D /data", "postgres -p5432"),
        *("postgres -c work_mem=8MB -N 60", "redis --port 1", "redis --maxclients 50", "redis --requirepass x"),
    ],
)
def test_what_the_lab_must_know_of_its_servers_is_refused_in_their_lines(line: str) -> None:
    with pytest.raises(ProcfileError, match=r"^`(postgres|redis)` cannot have '[\w-]+' in its line: the lab sets it, by its settings and"):
        services.describe(line.split())


@pytest.mark.parametrize("line", ["postgres -c work_mem=8MB", "postgres --shared-buffers=64MB", "redis --maxmemory 100mb --save 60 1"])
def test_servers_take_other_options_of_theirs(line: str) -> None:
    assert services.describe(line.split()).kind == line.split(maxsplit=1)[0]


@pytest.mark.parametrize(
    ("mistyped", "meant"), [("postgresql", "postgres"), ("airlow", "airflow"), ("reddis", "redis"), ("celry", "celery")]
)
def test_a_mistyped_program_is_refused_with_the_one_that_was_meant(mistyped: str, meant: str) -> None:
    with pytest.raises(ProcfileError, match=rf"^there is no program '{mistyped}' to run; did you mean '{meant}'\?$"):
        services.describe([mistyped])


def test_a_launcher_without_a_command_says_what_to_write() -> None:
    with pytest.raises(ProcfileError, match=r"write for example `airflow-celery-lab exec airflow scheduler`"):
        services.describe([])
