"""Notices DAGs whose id stands in more than one file.

Airflow takes such a DAG from the file that it has read last, and says nothing. Only the dag-processor sees both files.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_celery_lab.configuration import files, settings
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.configuration.state import State

#: How often another file may be read with the DAG in it before one that was not read again is taken to have lost it.
MISSES = 3
logger = logging.getLogger(__name__)


class Homes:
    """Remembers in which files the dag-processor has found each DAG."""

    def __init__(self, modified: Callable[[str], float | None]) -> None:
        """Ask `modified` for the time of a file's last change, in seconds since the epoch, None where it is gone."""
        self._modified = modified
        self._seen: dict[str, dict[str, tuple[float, int]]] = {}

    def note(self, dag_id: str, path: str, now: float) -> None:
        """Take in that a file was read with the DAG in it, at `now` in seconds since the epoch."""
        seen = self._seen.get(dag_id, {})
        others = {other: (when, misses + 1) for other, (when, misses) in seen.items() if other != path}
        kept = {other: (when, misses) for other, (when, misses) in others.items() if self._has_it_still(other, when, misses)}
        self._seen[dag_id] = {**kept, path: (now, 0)}

    def shared(self) -> dict[str, list[str]]:
        """Return the files of each DAG that stands in more than one."""
        return {dag_id: sorted(seen) for dag_id, seen in self._seen.items() if len(seen) > 1}

    def _has_it_still(self, path: str, when: float, misses: int) -> bool:
        modified = self._modified(path)
        # A file that was changed since then is read again at once, and noted if the DAG is still in it.
        return modified is not None and modified <= when and misses <= MISSES


def read(config: Settings) -> dict[str, list[str]]:
    """Return the files of each DAG that stands in more than one, as the dag-processor has noticed; below the DAG folder from there on."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(config.state.shared_ids.read_text(encoding="utf-8"))
        return {dag_id: [path.removeprefix(f"{config.dags}{os.sep}") for path in paths] for dag_id, paths in found.items()}
    return {}


def watch() -> None:
    """Notice what this process, a dag-processor, writes into Airflow's table of DAGs."""
    from sqlalchemy import event
    from sqlalchemy.orm import Mapper

    if hasattr(sys.modules.get("airflow.models.dag"), "DagModel"):  # In a process from the forkserver.
        _listen()
    else:
        # The table's class cannot be imported yet: Airflow is in the middle of its own import.
        event.listen(Mapper, "after_configured", _listen, once=True)


def _listen() -> None:
    from airflow.models.dag import DagModel
    from sqlalchemy import event

    state = settings.load(os.environ).state
    homes = Homes(_modified)
    told: dict[str, list[str]] = {}
    _publish(state, told)

    def note(dag: Any, path: str, *_: object) -> None:
        nonlocal told
        homes.note(dag.dag_id, path, time.time())
        if (shared := homes.shared()) != told:
            for dag_id in shared.keys() - told.keys():
                logger.warning("The DAG %r stands in more than one file: %s", dag_id, ", ".join(shared[dag_id]))
            told = shared
            _publish(state, told)

    event.listen(DagModel.fileloc, "set", note)


def _publish(state: State, shared: Mapping[str, list[str]]) -> None:
    with suppress(OSError):
        files.write(state.shared_ids, json.dumps(shared))


def _modified(path: str) -> float | None:
    """Return when a file was last changed; one in an archive is as old as that."""
    for place in (Path(path), *Path(path).parents):
        if place.is_file():
            return place.stat().st_mtime
    return None
