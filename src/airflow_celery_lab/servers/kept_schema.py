"""Airflow's schema as SQL, kept by the first migration of an empty database: later ones need seconds less.

`airflow db migrate` imports all of Airflow to make a hundred tables. What came out of it is the same each time, given
the installed packages, the settings of the database, and the version of Postgres; these are in the name of the file.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sysconfig
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from airflow_celery_lab.configuration import files, roots
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import LabError
from airflow_celery_lab.servers import executables, postgres, probes

#: Settings that change the schema, or the rows that Airflow puts into it.
SETTINGS = ("AIRFLOW__DATABASE__", "AIRFLOW__CORE__AUTH_MANAGER", "AIRFLOW__CORE__DEFAULT_POOL_TASK_SLOT_COUNT")
#: Where the database is says nothing of what is in it.
ADDRESS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
#: Who has migrated, and when, is no part of the schema.
WITHOUT_ROWS = "log"
#: Seconds for a dump, which takes a fifth of one.
PATIENCE = 30


def load(lab: Lab, variables: Mapping[str, str]) -> bool:
    """Make the schema in the lab's empty database from what was kept; return whether there was something that fits."""
    import psycopg2

    path = _path(lab, variables)
    if path is None or not path.exists():
        return False
    try:
        # psql's own commands, such as `\\restrict`, are not SQL.
        sql = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("\\"))
        with closing(psycopg2.connect(**probes.address(lab))) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql)
    except (OSError, ValueError, psycopg2.Error):  # Damaged; the migration makes another one.
        with suppress(OSError):
            path.unlink()
        return False
    return True


def keep(lab: Lab, variables: Mapping[str, str]) -> None:
    """Keep the schema of the lab's database, which was empty and has just been migrated; without `pg_dump` it is not kept."""
    path = _path(lab, variables)
    if path is None:
        return
    with suppress(OSError, LabError, subprocess.SubprocessError):
        address = probes.address(lab)
        environ = {**os.environ, "PGPASSWORD": address.pop("password")}
        server = executables.postgres_bin(lab.settings, postgres.major(lab.state.postgres_data)) / "postgres"
        program = server.resolve().with_name("pg_dump")  # In the search path there may be a link to the server alone.
        database = " ".join(f"{name}={value}" for name, value in address.items())
        command = [
            str(program),
            "--inserts",
            "--no-owner",
            "--no-privileges",
            "--exclude-schema=lab",
            f"--exclude-table-data={WITHOUT_ROWS}",
            database,
        ]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=PATIENCE)
        make_private_folder(path.parent)
        files.write(path, done.stdout)


def _path(lab: Lab, variables: Mapping[str, str]) -> Path | None:
    cache = roots.cache()
    return cache and cache / f"schema-{_digest(postgres.major(lab.state.postgres_data), variables)}.sql"


def _digest(major: int | None, variables: Mapping[str, str]) -> str:
    # The names of these folders have the versions.
    packages = sorted(name for name in os.listdir(sysconfig.get_path("purelib")) if name.endswith(".dist-info"))
    settings = sorted(f"{name}={value}" for name, value in variables.items() if name.startswith(SETTINGS) and name != ADDRESS)
    configuration = Path(variables["AIRFLOW_CONFIG"]).read_text(encoding="utf-8")
    return hashlib.sha256("\n".join([str(major), *packages, *settings, configuration]).encode()).hexdigest()[:16]
