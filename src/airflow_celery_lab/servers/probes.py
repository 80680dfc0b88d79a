"""Does a server answer? Each probe returns None when it does, and the reason when it does not."""

from __future__ import annotations

import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from airflow_celery_lab.configuration.environment import DATABASE
from airflow_celery_lab.configuration.exposure import SERVERS, Exposure
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.membership import Membership
from airflow_celery_lab.configuration.state import State

if TYPE_CHECKING:
    from psycopg2.sql import Composable

#: Seconds for one answer of a server on this machine, generous for one that is busy starting.
TIMEOUT = 2.0
#: libpq's first words when it wants TLS (PostgreSQL, "Message Formats").
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def postgres(lab: Lab) -> str | None:
    """Ask Postgres to answer a query in the lab's database."""
    return query(lab, "SELECT 1")[0]


def address(lab: Lab) -> dict[str, Any]:
    """Return how Postgres's clients name the lab's database."""
    return {
        "host": lab.settings.client_host,
        "port": lab.settings.ports.postgres,
        "user": DATABASE,
        "password": lab.credentials.postgres_password,
        "dbname": DATABASE,
    }


def query(lab: Lab, sql: str) -> tuple[str | None, str | None]:
    """Return the reason why `sql` could not be answered, or the first value of its answer.

    An empty answer is (None, None).
    """
    answers = rows(lab, sql)
    if isinstance(answers, str):
        return answers, None
    return None, str(answers[0][0][0]) if answers[0] else None


def rows(lab: Lab, *queries: str | Composable) -> list[list[tuple[Any, ...]]] | str:
    """Return the rows of each query's answer, or the reason why there is none."""
    import psycopg2

    try:
        with closing(psycopg2.connect(**address(lab), connect_timeout=int(TIMEOUT))) as connection:
            return [_rows(connection, query) for query in queries]
    except psycopg2.Error as error:
        lines = str(error).strip().splitlines() or ["no answer"]
        return f"Postgres on port {lab.settings.ports.postgres}: {lines[0].rpartition('failed: ')[2]}"


def _rows(connection: Any, sql: str | Composable) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def redis(lab: Lab) -> str | None:
    """Ask Redis for a PONG, in its own protocol: a client library costs 0.2 s to import."""
    where = f"Redis on port {lab.settings.ports.redis}"
    try:
        with socket.create_connection((lab.settings.client_host, lab.settings.ports.redis), timeout=TIMEOUT) as connection:
            return _pong(connection, where, lab.credentials.redis_password)
    except OSError as error:
        return f"{where}: {error.strerror or error}"


def main_machine(state: State, member: Membership) -> str | None:
    """Ask the Redis of the lab that this folder has joined for a PONG."""
    import ssl

    split = urlsplit(member.broker_url)
    where = f"Redis of {member.address}"
    try:
        context = ssl.create_default_context(cafile=str(state.main_authority))
        with (
            socket.create_connection((split.hostname or "", split.port or 0), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=split.hostname) as connection,
        ):
            return _pong(connection, where, unquote(split.username or "default"), unquote(split.password or ""))
    except OSError as error:
        return f"{where}: {error.strerror or error}"


def _pong(connection: socket.socket, where: str, *login: str) -> str | None:
    connection.sendall(f"AUTH {' '.join(login)}\r\nPING\r\n".encode())
    answer = b""
    while answer.count(b"\r\n") < len(("AUTH", "PING")) and (data := connection.recv(512)):
        answer += data
    if b"+PONG" in answer:
        return None
    return f"{where}: {answer.decode(errors='replace').splitlines()[0] if answer else 'no answer'}"


def gateway(lab: Lab, exposed: Exposure) -> str | None:
    """Shake hands with TLS at each port of the exposed address, as a machine that has joined does."""
    import ssl  # Where no lab is exposed nobody needs it.

    for name in SERVERS:
        port = getattr(lab.settings.ports, name)
        try:
            context = ssl.create_default_context(cafile=str(lab.state.authority))
            with socket.create_connection((exposed.address, port), timeout=TIMEOUT) as connection:
                if name == "postgres":
                    connection.sendall(SSL_REQUEST)
                    if connection.recv(1) != b"S":
                        return f"{exposed.host}:{port} does not begin with TLS"
                context.wrap_socket(connection, server_hostname=exposed.address).close()
        except OSError as error:
            return f"{exposed.host}:{port}: {error.strerror or error}"
    return None


def has_address(address: str) -> bool:
    """Return whether this machine has an IP address now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def port_taken(host: str, port: int) -> bool:
    """Return whether someone listens on `port`, by trying to listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as server:
        # As servers do: a port whose last connections only linger in TIME_WAIT is free.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
            server.listen(1)
        except OSError:
            return True
    return False
