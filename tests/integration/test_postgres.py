from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from celery import Celery

from airflow_celery_lab.cluster import limits
from airflow_celery_lab.configuration import demand, environment, procfile, settings
from airflow_celery_lab.errors import ProcfileError
from airflow_celery_lab.inside_airflow import result_backend
from airflow_celery_lab.inside_airflow.result_backend import ResultBackend
from airflow_celery_lab.servers import executables, kept_schema, postgres, probes, schema

from .sandbox import PATIENCE, Running, Sandbox, until, until_gone

INSTALLED, EMBEDDED = "installed", "embedded"


def postgres_folder(origin: str) -> Path | None:
    """Return where this machine has a Postgres of that origin."""
    for folder in executables.postgres_candidates(settings.load({})):
        if (folder / "initdb").exists() and folder.is_relative_to(sys.prefix) == (origin == EMBEDDED):
            return folder
    return None


@pytest.fixture(params=[INSTALLED, EMBEDDED])
def any_postgres(request: pytest.FixtureRequest, sandbox: Sandbox) -> Sandbox:
    """Return a lab that uses the machine's own Postgres, then one with the embedded."""
    folder = postgres_folder(request.param)
    if folder is None:
        pytest.skip(f"there is no {request.param} Postgres on this machine")
    sandbox.environ["LAB_POSTGRES_BIN"] = str(folder)
    return sandbox


def start(sandbox: Sandbox) -> Running:
    launcher = sandbox.start("postgres", "postgres")
    lab = sandbox.lab

    def answers() -> bool:
        assert launcher.popen.poll() is None, launcher.output
        return probes.postgres(lab) is None

    until(answers, "Postgres", interval=0.03)
    return launcher


def ask(sandbox: Sandbox, sql: str) -> str | None:
    reason, answer = probes.query(sandbox.lab, sql)
    assert reason is None
    return answer


def refusal(sandbox: Sandbox, **login: str) -> str:
    """Return what Postgres says to somebody who logs in differently from the lab."""
    config = sandbox.settings
    words = {"user": "airflow", "dbname": "airflow", "password": sandbox.credentials.postgres_password, **login}
    with pytest.raises(psycopg2.OperationalError) as refused:
        psycopg2.connect(host=config.client_host, port=config.ports.postgres, connect_timeout=int(PATIENCE), **words).close()
    return str(refused.value)


def test_postgres_is_private_and_keeps_its_data_over_a_stop_and_a_kill(any_postgres: Sandbox) -> None:
    first = start(any_postgres)
    assert "password authentication failed" in refusal(any_postgres, password="guess")
    assert "no password supplied" in refusal(any_postgres, password="")
    assert "no pg_hba.conf entry" in refusal(any_postgres, user="postgres")
    assert "no pg_hba.conf entry" in refusal(any_postgres, dbname="postgres")
    assert ask(any_postgres, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == "False"
    assert ask(any_postgres, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()") == "UTF8"
    with psycopg2.connect(_address(any_postgres)) as connection:
        connection.cursor().execute("CREATE TABLE kept AS SELECT 42 AS answer")
    connection.close()

    assert first.stop() == 0
    assert "database system is shut down" in first.output

    second = start(any_postgres)
    assert ask(any_postgres, "SELECT answer FROM kept") == "42"
    assert "lab: making the database" in first.output
    assert "lab: making the database" not in second.output
    assert "not properly shut down" not in second.output

    server = any_postgres.records["postgres"].main_pid
    second.kill()
    until_gone([server])

    start(any_postgres)
    assert ask(any_postgres, "SELECT answer FROM kept") == "42"


def test_the_schema_of_one_lab_is_kept_for_the_next_one_that_is_empty(any_postgres: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(any_postgres.folder / "cache"))
    monkeypatch.setenv("LAB_POSTGRES_BIN", any_postgres.environ["LAB_POSTGRES_BIN"])
    variables = environment.of_process(any_postgres.lab, "scheduler", any_postgres.environ)
    start(any_postgres)

    def do(sql: str) -> None:
        with psycopg2.connect(**probes.address(any_postgres.lab)) as connection:
            connection.cursor().execute(sql)
        connection.close()

    do("CREATE TABLE slots (name text PRIMARY KEY, number integer); INSERT INTO slots VALUES ('50 %s; \\restrict', -1)")
    do("CREATE TABLE log (event text); INSERT INTO log VALUES ('who migrated')")
    assert not kept_schema.load(any_postgres.lab, variables)
    kept_schema.keep(any_postgres.lab, variables)
    do("DROP TABLE slots, log")

    assert not kept_schema.load(any_postgres.lab, {**variables, "AIRFLOW__DATABASE__SQL_ALCHEMY_SCHEMA": "another"})
    assert kept_schema.load(any_postgres.lab, variables)
    assert ask(any_postgres, "SELECT name || number FROM slots") == "50 %s; \\restrict-1"
    assert ask(any_postgres, "SELECT count(*) FROM log") == "0"

    (kept,) = (any_postgres.folder / "cache/airflow-celery-lab").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text(kept.read_text().replace("INSERT", "INSERT INSERT"))
    do("DROP TABLE slots, log")
    assert not kept_schema.load(any_postgres.lab, variables)
    assert not kept.exists()
    assert ask(any_postgres, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


def test_postgres_gives_what_the_procfile_asks_for_and_more_is_refused_with_the_sum(sandbox: Sandbox) -> None:
    lines = [f"worker-{number}: airflow-celery-lab exec airflow celery worker --concurrency 15" for number in range(40)]
    (sandbox.project / "Procfile").write_text("\n".join(lines))
    asked = demand.of((line.service for line in procfile.read(sandbox.project)), demand.Sizes())
    sandbox.home.mkdir()
    demand.write(sandbox.lab.state, asked._replace(connections=900))
    first = start(sandbox)
    assert ask(sandbox, "SHOW max_connections") == str(900 + postgres.SPARE)
    assert first.stop() == 0
    demand.forget(sandbox.lab.state)
    start(sandbox)

    assert ask(sandbox, "SHOW max_connections") == str(40 * 15 * 2 + 40 + postgres.SPARE)
    limits.of_running_servers(sandbox.lab, asked)
    with pytest.raises(ProcfileError) as refused:
        limits.of_running_servers(sandbox.lab, asked._replace(connections=asked.connections + 100))
    assert str(refused.value).startswith(
        "40 workers with 600 slots and the other processes may open 1340 connections to Postgres at once, which was started for 1287; "
    )


def test_celerys_results_go_through_a_connection_that_is_closed_when_idle_or_through_one_that_is_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_backend, "IDLE", 1.0)
    start(sandbox)
    url = environment.wiring(sandbox.lab)["AIRFLOW__CELERY__RESULT_BACKEND"]
    schema._create_result_tables(url)
    app = Celery("results", backend=url, config_source={"override_backends": {"db": f"{ResultBackend.__module__}:ResultBackend"}})
    results = app.backend
    assert isinstance(results, ResultBackend)
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    end_others = others.replace("count(*)", "pg_terminate_backend(pid)")

    results.mark_as_done("a", None)
    for error in (ValueError("no"), ValueError("neither")):
        results.mark_as_failure("c", error)
    assert ask(sandbox, others) == "1"
    ask(sandbox, end_others)
    results.mark_as_done("d", None)
    until(lambda: ask(sandbox, others) == "0", "the end of the idle connection")
    assert str(results.get_result("c")) == "neither"
    results.keep_connection()
    assert [results.get_state(task) for task in ("a", "b", "a")] == ["SUCCESS", "PENDING", "SUCCESS"]
    assert ask(sandbox, others) == "1"
    ask(sandbox, end_others)
    assert results.get_state("b") == "PENDING"
    results.session_manager.invalidate(results.url)
    app.close()


def test_options_in_the_line_of_postgres_reach_it(sandbox: Sandbox) -> None:
    sandbox.start("postgres", "postgres", "-c", "work_mem=9MB")
    until(lambda: probes.query(sandbox.lab, "SHOW work_mem") == (None, "9MB"), "Postgres", interval=0.03)


def test_a_killed_postgres_whose_pid_another_process_has_by_now_starts_again(sandbox: Sandbox) -> None:
    """As in a container that is stopped and started: its processes are killed, and pids begin anew."""
    first = start(sandbox)
    server = sandbox.records["postgres"].main_pid
    lock = sandbox.home / "postgres" / "data" / "postmaster.pid"
    words = lock.read_text()
    assert first.stop() == 0

    # Postgres, which is never root, does not take another user's process for itself.
    owner = lock.parent.owner() if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "1000"], user=owner) as somebody:
        lock.write_text(words.replace(str(server), str(somebody.pid), 1))
        shutil.chown(lock, lock.parent.owner())
        lock.chmod(0o600)
        try:
            start(sandbox)
        finally:
            somebody.kill()


def test_an_interrupted_set_up_of_the_database_is_done_again(sandbox: Sandbox) -> None:
    draft = sandbox.home / "postgres" / "data.new"
    interrupted = sandbox.start("postgres", "postgres")
    until(draft.exists, "the beginning of initdb")
    interrupted.kill()
    until(lambda: not sandbox.processes(), "the end of initdb")
    assert draft.exists()
    assert not draft.with_name("data").exists()

    again = start(sandbox)

    assert "lab: making the database" in again.output
    assert not draft.exists()


def test_a_database_of_another_major_version_is_not_touched(sandbox: Sandbox) -> None:
    data = sandbox.home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")

    launcher = sandbox.start("postgres", "postgres")

    assert launcher.end() == 13
    assert re.fullmatch(
        rf"lab: the database in {sandbox.home} was made by Postgres 9, which is not on this machine; install it \(.*postgresql-9.*\n",
        launcher.said,
    )
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_a_folder_without_postgres_is_named(sandbox: Sandbox) -> None:
    sandbox.environ["LAB_POSTGRES_BIN"] = str(sandbox.folder)

    launcher = sandbox.start("postgres", "postgres")

    assert launcher.end() == 13
    assert launcher.said == f"lab: LAB_POSTGRES_BIN={sandbox.folder} holds no `postgres` and `initdb`; name the folder that does.\n"


def _address(sandbox: Sandbox) -> str:
    config = sandbox.settings
    return f"host={config.client_host} port={config.ports.postgres} user=airflow dbname=airflow password={sandbox.credentials.postgres_password}"
