"""What of `airflow_settings.yaml` Airflow's database has got, and the way there.

Airflow's models write it, in a process that imports Airflow once for all entries: before the scheduler starts, when no
api-server answers yet, and into the database for debugging, which has none. See docs/decisions/0026.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from airflow_celery_lab.configuration import airflow_settings, files
from airflow_celery_lab.configuration.airflow_settings import Entry
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.servers import probes


class Target(NamedTuple):
    """A database, and the file that says what was written into it."""

    identity: str  #: another one for another database
    note: Path


class Applied(NamedTuple):
    """What came of it."""

    written: Sequence[Entry] = ()
    failed: Sequence[str] = ()  #: a sentence for each entry that Airflow did not take


def of_lab(lab: Lab) -> Target | None:
    """Return the lab's own database, None when it does not answer."""
    _, identity = probes.query(lab, "SELECT system_identifier FROM pg_control_system()")
    return Target(identity, lab.state.applied_settings) if identity else None


def of_file(database: Path) -> Target:
    """Return a database that is a file."""
    return Target(str(database.stat().st_ino), database.with_suffix(".settings.json"))


def differing(lab: Lab, target: Target) -> list[Entry]:
    """Return the entries of the project's file that were not written as they are now."""
    written = _written(target)
    return [entry for entry in airflow_settings.of(lab.settings).entries if written.get(entry.label) != _digest(lab, entry)]


def apply(lab: Lab, target: Target, variables: Mapping[str, str], *, everything: bool = False) -> Applied:
    """Write the entries that differ, or `everything`, into the database of `variables`, the environment of an Airflow process."""
    with target.note.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Of two schedulers that start at once the second finds nothing to do.
        entries = list(airflow_settings.of(lab.settings).entries) if everything else differing(lab, target)
        if not entries:
            return Applied()
        failed = _write(entries, variables)
        done = [entry for entry in entries if entry.label not in failed]
        written = {**_written(target), **{entry.label: _digest(lab, entry) for entry in done}}
        files.write(target.note, json.dumps({"database": target.identity, "entries": written}))
    name = airflow_settings.path_of(lab.settings).name
    return Applied(done, [f"{name}: {label} is not there: {reason}; correct it." for label, reason in failed.items()])


def _write(entries: Sequence[Entry], variables: Mapping[str, str]) -> dict[str, str]:
    """Return why entries could not be written, by their labels."""
    command = [sys.executable, "-m", "airflow_celery_lab.inside_airflow.settings_writer"]
    done = subprocess.run(command, env=dict(variables), input=json.dumps(entries), capture_output=True, text=True, check=False)
    with suppress(ValueError, IndexError):
        return dict(json.loads(done.stdout.splitlines()[-1]))
    reason = next(reversed(done.stderr.strip().splitlines()), f"it ended with status {done.returncode}").partition(":")[0]
    return dict.fromkeys((entry.label for entry in entries), f"Airflow did not start to write it ({reason})")


def _written(target: Target) -> dict[str, str]:
    """Return the digest of each entry that was written into this database, nothing where the note cannot be read."""
    with suppress(OSError, ValueError, AttributeError):
        note = json.loads(target.note.read_text())
        if note.get("database") == target.identity:
            return dict(note["entries"])
    return {}


def _digest(lab: Lab, entry: Entry) -> str:
    return entry.digest(lab.credentials.fernet_key)
