"""Airflow's database schema: migrated once, by whichever process comes first."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from celery_lab import probes
from celery_lab.credentials import Credentials
from celery_lab.errors import NotReadyError
from celery_lab.settings import Settings


def probe(settings: Settings, credentials: Credentials, variables: dict[str, str]) -> str | None:
    """Return None when the schema is that of the installed Airflow, migrating it where needed.

    `airflow db migrate` takes seconds even when there is nothing to do, so the revision that it left is
    written down and compared.

    Raises:
        NotReadyError: the migration failed.

    """
    stamp = settings.home / "schema.json"
    if _current(settings, credentials, stamp):
        return None
    with (settings.home / "schema.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "another process migrates the database schema"
        if _current(settings, credentials, stamp):
            return None
        print("lab: migrating the database schema", flush=True)
        migration = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], env=variables, capture_output=True, text=True, check=False
        )
        if migration.returncode:
            print(migration.stdout, migration.stderr, flush=True)
            raise NotReadyError(
                "`airflow db migrate` failed; its own words stand above. Mend what they say, or run `./lab clean` to begin with an empty database"
            )
        _create_result_tables(variables["AIRFLOW__CELERY__RESULT_BACKEND"])
        stamp.write_text(json.dumps({"airflow": _airflow(), "revision": _revision(settings, credentials)}))
    return None


def _current(settings: Settings, credentials: Credentials, stamp: Path) -> bool:
    with suppress(OSError, ValueError, KeyError, TypeError):
        written = json.loads(stamp.read_text())
        return bool(written["airflow"] == _airflow() and written["revision"] == _revision(settings, credentials))
    return False


def _revision(settings: Settings, credentials: Credentials) -> str | None:
    return probes.query(settings, credentials, "SELECT version_num FROM alembic_version")[1]


def _create_result_tables(url: str) -> None:
    """Create the tables of Celery's result backend, which two workers starting at once trip over."""
    from celery import Celery

    Celery("lab", backend=url).backend.ResultSession().close()


def _airflow() -> str:
    return version("apache-airflow-core")
