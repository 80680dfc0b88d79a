"""Writes connections, variables and pools into Airflow's database, by Airflow's own models, which encrypt them.

A program: reads the entries as JSON from stdin, as arguments are for all to see, and prints which ones failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def write(entries: Iterable[tuple[str, str, Mapping[str, Any]]]) -> dict[str, str]:
    """Write each (kind, name, fields), in place of what has its name; return why some could not be, by kind and name."""
    reasons = {f"{kind} {name}": _failure(WRITERS[kind], name, fields) for kind, name, fields in entries}
    return {label: reason for label, reason in reasons.items() if reason}


def _failure(writer: Callable[..., None], name: str, fields: Mapping[str, Any]) -> str | None:
    try:
        writer(name, **fields)
    except Exception as error:  # noqa: BLE001  # One that Airflow does not take must not keep the others away.
        return f"Airflow does not take it ({type(error).__name__})"  # Its message may quote a secret.
    return None


def _connection(name: str, **fields: Any) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    new = Connection(conn_id=name, **fields)
    with create_session() as session:
        if found := session.scalar(select(Connection).where(Connection.conn_id == name)):
            new.description = found.description
            session.delete(found)  # Its setters keep a password where there shall be none.
            session.flush()
        session.add(new)


def _variable(name: str, value: str) -> None:
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        Variable.set(name, value, session=session)


def _pool(name: str, slots: int, description: str | None = None) -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        pool = session.scalar(select(Pool).where(Pool.pool == name)) or Pool(pool=name, include_deferred=False)
        pool.slots = slots
        pool.description = pool.description if description is None else description
        session.add(pool)


WRITERS: dict[str, Callable[..., None]] = {"connection": _connection, "variable": _variable, "pool": _pool}

if __name__ == "__main__":
    print(json.dumps(write(json.load(sys.stdin))))
