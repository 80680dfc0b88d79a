from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg2
import pytest

from airflow_celery_lab.metrics import database
from airflow_celery_lab.metrics.families import RUNS, WAITS, Loss
from airflow_celery_lab.servers import probes

from .sandbox import Sandbox, Warm, until

#: The columns of Airflow's that are asked for, and tries whose times are in seconds after one moment.
TABLES = """
DROP TABLE IF EXISTS task_instance, task_instance_history, log;
CREATE TABLE task_instance (queue text, state text, hostname text, queued_dttm timestamptz, start_date timestamptz, end_date timestamptz);
CREATE TABLE task_instance_history (LIKE task_instance);
CREATE TABLE log (event text, extra text, dttm timestamptz);
"""
TRY = "INSERT INTO {table} SELECT 'q', %s, %s, m + %s * s, m + %s * s, m + %s * s FROM (SELECT now() - interval '1 h' AS m, interval '1 s' AS s) AS t"


@pytest.fixture(scope="module")
def server(warm: Warm) -> Iterator[Sandbox]:
    """A lab of which Postgres runs alone."""
    own = Sandbox(warm)
    try:
        launcher = own.start("postgres", "postgres")

        def answers() -> bool:
            assert launcher.popen.poll() is None, launcher.output
            return probes.postgres(own.lab) is None

        until(answers, "Postgres", interval=0.03)
        yield own
    finally:
        own.close()


@pytest.fixture
def tables(server: Sandbox) -> Sandbox:
    do(server, TABLES)
    return server


def do(sandbox: Sandbox, sql: str, values: tuple[object, ...] = ()) -> None:
    with psycopg2.connect(**probes.address(sandbox.lab)) as connection:
        connection.cursor().execute(sql, values)
    connection.close()


def add(sandbox: Sandbox, state: str | None, worker: str | None, *times: float | None, table: str = "task_instance") -> None:
    do(sandbox, TRY.format(table=table), (state, worker, *times))


def times(sandbox: Sandbox) -> tuple[int, float, int, float]:
    """Return how many waits and runs are counted, with their seconds."""
    answer = database.ask(sandbox.lab)
    assert not isinstance(answer, str), answer
    groups, _ = answer
    assert all(len(group.waits.counts) == len(WAITS) and len(group.runs.counts) == len(RUNS) for group in groups)
    return (
        sum(group.waits.total for group in groups),
        sum(group.waits.seconds for group in groups),
        sum(group.runs.total for group in groups),
        sum(group.runs.seconds for group in groups),
    )


def test_what_a_task_goes_through_never_makes_a_count_fall(tables: Sandbox) -> None:
    """One task: it runs, its worker is lost, it waits for its second try, which runs and succeeds, and is cleared by hand."""
    seen = [times(tables)]
    for state, worker, moments in (
        ("queued", "", (0, None, None)),
        ("running", "w", (0, 1.5, None)),
        ("up_for_retry", "w", (0, 1.5, 4)),
        ("queued", "w", (6, 1.5, 4)),
        ("running", "w", (6, 7, None)),
        ("success", "w", (6, 7, 9)),
        (None, "w", (6, 7, 9)),
    ):
        do(tables, "TRUNCATE task_instance")
        add(tables, state, worker, *moments)
        if state in {"up_for_retry", None}:  # Airflow has moved the try that ended to the former ones.
            add(tables, "failed", worker, *moments, table="task_instance_history")
        seen.append(times(tables))

    none, first, both = (0, 0, 0, 0), (1, 1.5, 1, 2.5), (2, 2.5, 2, 4.5)
    assert seen == [none, none, none, first, first, first, both, both]


def test_only_tries_whose_times_airflow_keeps_are_counted(tables: Sandbox) -> None:
    add(tables, "success", "w", 5, 1, 9)  # Was deferred: queued again after its first start.
    add(tables, "failed", "", 0, None, 40)  # No worker took it.
    add(tables, "skipped", None, None, 1, 1)  # Nor this one: a task that does nothing.
    add(tables, None, None, None, None, None)

    assert times(tables) == (0, 0, 0, 0)


def test_tasks_are_counted_by_state_and_the_oldest_queued_one_is_known(tables: Sandbox) -> None:
    for _ in range(2):
        add(tables, "queued", "", 0, None, None)
    add(tables, None, None, None, None, None)
    add(tables, "failed", "w", 0, 1, 2, table="task_instance_history")

    answer = database.ask(tables.lab)

    assert not isinstance(answer, str), answer
    groups = {group.state: group for group in answer[0]}
    assert {state: group.tasks for state, group in groups.items()} == {"failed": 0, "none": 1, "queued": 2}
    assert 3600 <= groups["queued"].oldest < 3700
    assert groups["none"].oldest == 0


def test_a_loss_of_many_tasks_at_one_moment_is_one_loss(tables: Sandbox) -> None:
    for event, extra in [
        ("worker lost", "worker-a was lost at 10:00:00 UTC: its processes have ended."),
        ("worker lost", "worker-a was lost at 10:00:00 UTC: its processes have ended."),
        ("worker lost", "worker-a was lost at 10:05:00 UTC: its processes have ended."),
        ("message lost", "Its message was lost"),
        ("running", "something else"),
    ]:
        do(tables, "INSERT INTO log VALUES (%s, %s, now())", (event, extra))

    answer = database.ask(tables.lab)

    assert not isinstance(answer, str), answer
    assert answer[1] == [Loss("message lost", "", 1, 1), Loss("worker lost", "worker-a", 3, 2)]


def test_why_nothing_is_known_is_told_in_one_line(tables: Sandbox) -> None:
    do(tables, "DROP TABLE log")
    wrong = tables.lab._replace(credentials=tables.credentials._replace(postgres_password="wrong"))

    told = [database.ask(tables.lab), database.ask(wrong)]

    assert told[0] == f'Postgres on port {tables.settings.ports.postgres}: relation "log" does not exist'
    assert "password authentication failed" in str(told[1])
    assert all(isinstance(reason, str) and len(reason.splitlines()) == 1 for reason in told)


def test_what_is_known_is_printed_while_a_server_hangs_and_why_the_rest_is_missing(tables: Sandbox) -> None:
    tables.start("redis", "redis")
    until(lambda: probes.redis(tables.lab) is None, "Redis")
    of_redis, of_postgres = "airflow_lab_queue_messages", "airflow_lab_messages_sent_again_total 0.0"
    add(tables, "success", "w", 0, 1, 2)

    well = tables.run("metrics")
    assert (well.returncode, well.stderr) == (0, "")
    assert 'airflow_lab_task_latency_seconds_count{queue="q"} 1.0' in well.stdout
    for name, known, missing in (("redis", of_postgres, of_redis), ("postgres", of_redis, of_postgres)):
        assert tables.run("pause", name).returncode == 0
        done = tables.run("metrics")
        assert tables.run("resume", name).returncode == 0

        assert done.returncode == 0
        assert re.fullmatch(rf"lab: {name.capitalize()} on port \d+: [^\n]+\n", done.stderr), done.stderr
        assert f'airflow_lab_scrape_error{{source="{name}"}} 1.0' in done.stdout
        assert f'airflow_lab_process_ready{{kind="{name}",process="{name}"}} 0.0' in done.stdout
        assert known in done.stdout
        assert missing not in done.stdout
        assert known in well.stdout
        assert missing in well.stdout
