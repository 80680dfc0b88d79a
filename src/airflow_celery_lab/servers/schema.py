"""Airflow's database schema: migrated once, by the process that comes first."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import NotReadyError, StateFolderError
from airflow_celery_lab.servers import kept_schema, probes


def probe(lab: Lab, variables: Mapping[str, str]) -> str | None:
    """Return None when the schema is that of the installed Airflow; migrate it where it is older.

    `airflow db migrate` takes seconds even when there is nothing to do, so the revision that it left is
    written down and compared. An empty database gets the schema that an earlier one had, where it was kept.

    Raises:
        StateFolderError: a newer Airflow made the database.
        NotReadyError: the migration failed.

    """
    check_release(lab.state)
    if _current(lab):
        return None
    with lab.state.schema_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "another process migrates the database schema"
        if _current(lab):
            return None
        empty = _revision(lab) is None
        if not (empty and kept_schema.load(lab, variables)):
            print("lab: migrating the database schema", flush=True)
            _migrate_database(variables)
            if empty:
                kept_schema.keep(lab, variables)
        files.write(lab.state.schema, json.dumps({"airflow": installed(), "revision": _revision(lab)}))
    return None


def check_release(state: State) -> None:
    """Do nothing when the installed Airflow can use the database.

    Raises:
        StateFolderError: a newer Airflow made it, and Airflow migrates upwards only.

    """
    made_by = _stamp(state).get("airflow", "")
    if made_by and _release(made_by) > _release(installed()):
        raise StateFolderError(
            f"the database in {state.home} was made by Airflow {made_by}, and this is Airflow {installed()}, which cannot read it; "
            f"set LAB_HOME to another folder for this one, or run `{typed()} clean` to start with an empty database.",
            path=state.home,
        )


def debugging_database(state: State, variables: Mapping[str, str]) -> Path:
    """Return the path of a small database with the schema of the installed Airflow; make it where it is missing.

    Raises:
        NotReadyError: Airflow could not make it.

    """
    make_private_folder(state.debugging)
    path = state.debugging / f"airflow-{installed()}.db"
    if not path.exists():
        print("lab: making a database for debugging, once", flush=True)
        draft = state.debugging / f"draft-{os.getpid()}.db"
        done = _migrate({**variables, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sqlite(draft)})
        if done.returncode:
            print(done.stdout, done.stderr, flush=True)
            raise NotReadyError(f"Airflow could not make the database {draft}; its own words stand above.", path=draft)
        draft.rename(path)
    return path


def installed() -> str:
    """Return the version of the installed Airflow."""
    from importlib.metadata import version  # Most commands do not ask, and need not wait for this import.

    return version("apache-airflow-core")


def sqlite(path: Path) -> str:
    """Return the address of a database that is a file."""
    return f"sqlite:///{path}"


def _migrate_database(variables: Mapping[str, str]) -> None:
    migration = _migrate(variables)
    if migration.returncode:
        print(migration.stdout, migration.stderr, flush=True)
        raise NotReadyError(
            f"`airflow db migrate` failed; its own words stand above. Fix what they say, or run `{typed()} clean` to start with an empty database"
        )
    _create_result_tables(variables["AIRFLOW__CELERY__RESULT_BACKEND"])


def _migrate(variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    return subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)


def _current(lab: Lab) -> bool:
    written = _stamp(lab.state)
    return written.get("airflow") == installed() and "revision" in written and written["revision"] == _revision(lab)


def _stamp(state: State) -> dict[str, str]:
    """Return what the last migration wrote down, nothing where it cannot be read."""
    with suppress(OSError, ValueError):
        written = json.loads(state.schema.read_text())
        if isinstance(written, dict):
            return {key: str(value) for key, value in written.items()}
    return {}


def _revision(lab: Lab) -> str | None:
    return probes.query(lab, "SELECT version_num FROM alembic_version")[1]


def _release(text: str) -> tuple[int, ...]:
    """Return a version's major and minor number; between patch releases the migration itself decides."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _create_result_tables(url: str) -> None:
    """Create the tables of Celery's result backend: two workers that start at once would both try."""
    from celery import Celery

    Celery("lab", backend=url).backend.ResultSession().close()
