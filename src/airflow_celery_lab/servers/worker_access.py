"""How the workers of other machines log in: a role in Postgres and a user of Redis that can do what workers do, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration.exposure import WORKER, Exposure
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import NotReadyError
from airflow_celery_lab.servers import postgres, probes, redis

#: Celery's result tables (`celery.backends.database.models`), and what counts their rows.
TABLES = "celery_taskmeta, celery_tasksetmeta"
SEQUENCES = "task_id_sequence, taskset_id_sequence"


def grant(lab: Lab, exposure: Exposure) -> None:
    """Let workers log in with the passwords of `exposure`, and with no others.

    Raises:
        NotReadyError: Postgres or Redis does not answer, or cannot have such a login.

    """
    from psycopg2.extensions import encrypt_password

    with _database(lab) as cursor:
        # The server is told how the password is verified, and not the password.
        verifier = encrypt_password(exposure.postgres_password, WORKER, scope=cursor.connection, algorithm="scram-sha-256")
        cursor.execute(f"SELECT {postgres.WORKER_LOGIN}(%s)", (verifier,))
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE ON {TABLES} TO {WORKER}")
        cursor.execute(f"GRANT USAGE ON SEQUENCE {SEQUENCES} TO {WORKER}")
    _tell_redis(lab, "SETUSER", WORKER, "reset", *redis.worker_rules(exposure))


def revoke(lab: Lab) -> list[str]:
    """Let workers of other machines log in no more, and end their connections; return why that could not be done at once."""
    return [problem for forget in (_forget_in_postgres, _forget_in_redis) if (problem := _problem(lab, forget))]


def _problem(lab: Lab, forget: Callable[[Lab], None]) -> str | None:
    try:
        forget(lab)
    except NotReadyError as error:
        return str(error)
    return None


def _forget_in_postgres(lab: Lab) -> None:
    with _database(lab) as cursor:
        cursor.execute(f"SELECT {postgres.WORKER_LOGIN}(NULL)")
        cursor.execute(f"REVOKE ALL ON {TABLES} FROM {WORKER}")
        cursor.execute(f"REVOKE ALL ON SEQUENCE {SEQUENCES} FROM {WORKER}")


def _forget_in_redis(lab: Lab) -> None:
    _tell_redis(lab, "DELUSER", WORKER)


@contextmanager
def _database(lab: Lab) -> Iterator[Any]:
    """Yield a cursor of the owner of the lab's database; what is done with it is done whole or not at all.

    Raises:
        NotReadyError: Postgres does not answer, or refuses.

    """
    import psycopg2
    from psycopg2.errors import InvalidSchemaName, UndefinedFunction

    try:
        connection = psycopg2.connect(**probes.address(lab), connect_timeout=int(probes.TIMEOUT))
        with closing(connection), connection, connection.cursor() as cursor:
            yield cursor
    except (InvalidSchemaName, UndefinedFunction) as error:
        raise NotReadyError(
            "this Postgres was started by an older lab, and has no role for workers of other machines; "
            f"run `{typed()} down` and `{typed()} up -d` first."
        ) from error
    except psycopg2.Error as error:
        lines = str(error).strip().splitlines() or ["no answer"]
        raise NotReadyError(f"Postgres on port {lab.settings.ports.postgres}: {lines[0]}; see `{typed()} status`.") from error


def _tell_redis(lab: Lab, *words: str) -> None:
    import redis as client

    where = f"Redis on port {lab.settings.ports.redis}"
    connection = client.Redis(
        host=lab.settings.client_host,
        port=lab.settings.ports.redis,
        password=lab.credentials.redis_password,
        socket_timeout=probes.TIMEOUT,
        socket_connect_timeout=probes.TIMEOUT,
    )
    try:
        with closing(connection):
            connection.execute_command("ACL", *words)  # type: ignore[no-untyped-call]
    except client.ResponseError as error:
        raise NotReadyError(f"{where} cannot have a user for workers of other machines: {error}; it must be Redis 6.2 or newer.") from error
    except client.RedisError as error:
        raise NotReadyError(f"{where}: {str(error).rstrip('.')}; see `{typed()} status`.") from error
