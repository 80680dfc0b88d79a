"""The gateway, and what the logins of other machines' workers can do: real servers, without Airflow.

It listens on another address of loopback, which is this machine's alone; tests/e2e/test_exposed.py has other machines.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from airflow_celery_lab.configuration import environment, exposure, links
from airflow_celery_lab.configuration.exposure import WORKER, Exposure
from airflow_celery_lab.configuration.links import Condition, Links
from airflow_celery_lab.remote.authority import Authority
from airflow_celery_lab.servers import probes, schema, worker_access

from .sandbox import PATIENCE, Running, Sandbox, Warm, until

ADDRESS, OTHER = "127.0.0.2", "127.0.0.3"
EXPOSED = Exposure(ADDRESS, "postgres-password", "redis-password", "0" * 64, 0.0)

if not probes.has_address(ADDRESS):
    pytest.skip("this machine has one address of loopback only", allow_module_level=True)


@pytest.fixture(scope="module")
def exposed(warm: Warm) -> Iterator[Sandbox]:
    """Run Postgres, Redis and a gateway, with one table of Airflow's and those of Celery's results."""
    sandbox = Sandbox(warm)
    try:
        for name in ("postgres", "redis"):
            sandbox.start(name, name)
        lab = sandbox.lab
        until(lambda: probes.postgres(lab) is None and probes.redis(lab) is None, "Postgres and Redis")
        schema._create_result_tables(environment.wiring(lab)["AIRFLOW__CELERY__RESULT_BACKEND"])
        owner(sandbox, "CREATE TABLE connection (password text)")
        worker_access.grant(lab, EXPOSED)
        gateway = sandbox.start("gateway", "gateway")
        gateway.until("the lab is not exposed, and nothing listens here")
        exposure.write(lab.state, EXPOSED)
        listening(gateway, ADDRESS)
        yield sandbox
    finally:
        sandbox.close()


def listening(gateway: Running, address: str) -> None:
    # Postgres and Redis answer, and that is all there is behind it.
    gateway.until(f"listens with TLS: rediss://{address}:")


def owner(sandbox: Sandbox, sql: str) -> None:
    connection = psycopg2.connect(**probes.address(sandbox.lab))
    with connection, connection.cursor() as cursor:
        cursor.execute(sql)
    connection.close()


def worker(sandbox: Sandbox, **options: Any) -> Any:
    """Return a connection to Postgres as another machine's worker makes it."""
    words = {"host": ADDRESS, "sslmode": "verify-full", "sslrootcert": str(sandbox.lab.state.authority)}
    words |= {"password": EXPOSED.postgres_password, **options}
    port = sandbox.settings.ports.postgres
    return psycopg2.connect(port=port, user=WORKER, dbname="airflow", connect_timeout=int(PATIENCE), **words)


def client(sandbox: Sandbox, **options: Any) -> Redis:
    words: dict[str, Any] = {"host": ADDRESS, "ssl": True, "ssl_ca_certs": str(sandbox.lab.state.authority)}
    words |= {"username": WORKER, "password": EXPOSED.redis_password, "retry": Retry(NoBackoff(), 0), "socket_timeout": PATIENCE, **options}
    return Redis(port=sandbox.settings.ports.redis, **words)


def refused(connection: Any, sql: str) -> bool:
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql)
        except InsufficientPrivilege:
            return True
        finally:
            connection.rollback()
    return False


def test_who_knows_the_authority_comes_in_and_others_do_not(exposed: Sandbox) -> None:
    other = Authority(exposed.lab.state._replace(home=exposed.folder / "other"))
    (exposed.folder / "wrong.pem").write_text(other.certificate())
    wrong = str(exposed.folder / "wrong.pem")

    assert client(exposed).ping()
    worker(exposed).close()
    for options in ({"ssl_ca_certs": wrong}, {"ssl": False}):
        with pytest.raises(RedisConnectionError):
            client(exposed, **options).ping()
    with pytest.raises(AuthenticationError):
        client(exposed, username=None, password=None).ping()
    for reason, login in {
        "certificate verify failed": {"sslrootcert": wrong},
        "this address speaks TLS only; connect with sslmode=verify-full": {"sslmode": "disable"},
        "password authentication failed": {"password": "guess"},
    }.items():
        with pytest.raises(psycopg2.OperationalError, match=reason):
            worker(exposed, **login)


def test_other_machines_links_are_cut_and_healed_like_those_of_workers_here(exposed: Sandbox) -> None:
    state, redis = exposed.lab.state, client(exposed)
    assert redis.ping()

    def answer() -> str:
        try:
            return "answers" if client(exposed, socket_timeout=0.5).ping() else ""
        except RedisTimeoutError:
            return "hangs"

    links.write(state, Links().having(["redis"], Condition(cut=True)))
    try:
        until(lambda: answer() == "hangs", "the cut link to Redis")
        worker(exposed).close()
    finally:
        links.clear(state)
    until(lambda: answer() == "answers", "the healed link to Redis")
    assert redis.ping()


def test_a_plain_text_client_of_postgres_is_told_what_to_do(exposed: Sandbox) -> None:
    program = "psql"
    address = f"host={ADDRESS} port={exposed.settings.ports.postgres} user={WORKER} dbname=airflow sslmode=disable"
    try:
        done = subprocess.run(
            [program, address, "-c", "SELECT 1"], env={**os.environ, "PGPASSWORD": "x"}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no psql on this machine")

    assert "this address speaks TLS only" in done.stderr


def test_a_worker_of_another_machine_keeps_results_in_postgres_and_sees_nothing_else(exposed: Sandbox) -> None:
    connection = worker(exposed)
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO celery_taskmeta (id, task_id) VALUES (nextval('task_id_sequence'), 'a')")
        cursor.execute("UPDATE celery_taskmeta SET status = 'SUCCESS' WHERE task_id = 'a' RETURNING status")
        assert cursor.fetchone() == ("SUCCESS",)
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND has_table_privilege(oid, 'SELECT')"
        )
        assert sorted(cursor) == [("celery_taskmeta",), ("celery_tasksetmeta",)]
    allowed = [
        sql
        for sql in (
            "SELECT * FROM connection",
            "DELETE FROM celery_taskmeta",
            "CREATE TABLE mine (a int)",
            "CREATE TEMPORARY TABLE mine (a int)",
            "CREATE SCHEMA mine",
            "SELECT lo_create(0)",
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SELECT lab.worker_login(NULL)",
            "ALTER ROLE airflow PASSWORD 'mine'",
            "SET ROLE airflow",
            "SELECT pg_read_file('PG_VERSION')",
            "COPY (SELECT 1) TO PROGRAM 'true'",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'airflow'",
        )
        if not refused(connection, sql)
    ]
    connection.close()

    # Nobody of that role is connected while only the worker is.
    assert allowed == ["SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'airflow'"]


def test_a_worker_of_another_machine_uses_redis_and_does_not_administrate_it(exposed: Sandbox) -> None:
    redis = client(exposed)
    redis.lpush("default", "message")
    assert redis.brpop(["default"], 1) == (b"default", b"message")
    with redis.pipeline() as pipeline:
        pipeline.zadd("unacked_index", {"a": 1})
        pipeline.hset("unacked", "a", "b")
        assert pipeline.execute() == [1, 1]
    with redis.lock("unacked_mutex", timeout=5):
        pass
    redis.publish("0.celeryev", "{}")

    for command in (
        *("CONFIG GET *", "CONFIG SET dir /tmp", "FLUSHALL", "FLUSHDB", "SHUTDOWN", "ACL LIST", "ACL SETUSER x", "KEYS *", "MONITOR"),
        *(
            "CLIENT LIST",
            "CLIENT KILL TYPE normal",
            "DEBUG SLEEP 0",
            "MODULE LIST",
            "REPLICAOF no one",
            "SAVE",
            "SCRIPT FLUSH",
            "FUNCTION LIST",
        ),
    ):
        with pytest.raises(ResponseError, match=r"has no permissions to run|DEBUG command not allowed"):
            redis.execute_command(*command.split())  # type: ignore[no-untyped-call]
    redis.close()


def test_redis_lets_workers_in_after_a_start_too_and_its_configuration_does_not_hold_their_password(exposed: Sandbox) -> None:
    next(running for running in exposed._started if "starting redis" in running.output).stop()
    exposed.start("redis", "redis")
    until(lambda: probes.redis(exposed.lab) is None, "Redis")

    assert client(exposed).ping()
    assert EXPOSED.redis_password not in exposed.lab.state.redis_configuration.read_text()


def test_the_gateway_follows_the_record_and_what_is_taken_back_ends_at_once(exposed: Sandbox) -> None:
    gateway = next(running for running in exposed._started if "gateway" in running.output)
    state = exposed.lab.state
    redis, postgres = client(exposed), worker(exposed)
    assert redis.ping()

    exposure.write(state, EXPOSED._replace(address=OTHER))
    listening(gateway, OTHER)
    assert client(exposed, host=OTHER).ping()
    with pytest.raises(RedisConnectionError):
        client(exposed).ping()
    with pytest.raises(RedisConnectionError):
        redis.ping()
    with pytest.raises(psycopg2.OperationalError), postgres.cursor() as cursor:
        cursor.execute("SELECT 1")

    inside = client(exposed, host="127.0.0.1", ssl=False)
    connection = worker(exposed, host="127.0.0.1", sslmode="disable")
    assert inside.ping()
    assert worker_access.revoke(exposed.lab) == []
    with pytest.raises((AuthenticationError, RedisConnectionError)):
        inside.ping()
    with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    exposure.remove(state)
    until(lambda: gateway.output.count("the lab is not exposed") == 2, "the end of the exposure")
    assert not probes.port_taken(OTHER, exposed.settings.ports.redis)
    assert gateway.popen.poll() is None
