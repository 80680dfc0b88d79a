"""The DAG files: which Airflow has read, when, what is wrong with them, and whether what was saved last is live."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import DagFileError, UnknownDagError
from airflow_celery_lab.inside_airflow import dag_sources
from airflow_celery_lab.inside_airflow.dag_sources import Listing
from airflow_celery_lab.wait import wait_until

#: Seconds within which a file that was saved is live, on a busy machine too.
LIVE = 15.0
#: The bundle with the DAGs of experiments, in config/airflow.cfg.
EXPERIMENTS = "experiments"
#: Where a line of a traceback says that it is.
PLACE = re.compile(r'File "([^"]+)", line (\d+)')


class Dag(NamedTuple):
    """A DAG of a file."""

    dag_id: str
    paused: bool


@dataclass(frozen=True)
class DagFile:
    """One file of the DAG folder. Times are seconds since the epoch."""

    name: str  #: its path below the folder
    state: str  #: live, changed (since it was parsed), unread, error, "no DAG" or ignored
    dags: list[Dag]
    saved: float | None  #: or what of the modules that it uses was saved last; None where it is gone
    parsed: float | None  #: when its parsing ended
    seconds: float | None  #: that it took, None for one with an error
    error: str | None  #: with its place

    def as_json(self) -> dict[str, Any]:
        """Return what `lab dags --json` prints."""
        return {**asdict(self), "dags": [dag._asdict() for dag in self.dags]}


def look(api: AirflowApi, settings: Settings) -> list[DagFile]:
    """Return all files, by name."""
    # Another bundle's files are in another folder.
    dags = [dag for dag in api.pages("/dags", "dags") if dag["relative_fileloc"] and dag.get("bundle_name") != EXPERIMENTS]
    return judge(dags, api.import_errors(), _changes(settings.dags), dag_sources.listed(settings.state), settings.dags)


def judge(
    dags: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]], changes: Mapping[str, float], listing: Listing, folder: Path
) -> list[DagFile]:
    """Return the files, from Airflow's DAGs and import errors, and when each file was saved.

    `changes` counts the modules that a file uses as well.
    """
    broken = {_relative(error["filename"], folder): error for error in errors}
    homes: dict[str, list[Mapping[str, Any]]] = {}
    for dag in dags:
        homes.setdefault(dag["relative_fileloc"], []).append(dag)
    names = sorted({*changes, *homes, *broken})
    return [_file(name, homes.get(name, []), broken.get(name), changes.get(name), listing, folder) for name in names]


def wait_until_live(api: AirflowApi, settings: Settings, dag_id: str, on_wait: Callable[[str], None]) -> float:
    """Wait until Airflow has parsed the file of a DAG as it was saved last; return the seconds that took, 0.0 for none.

    A DAG that Airflow does not know is left to those who ask for it.

    Raises:
        DagFileError: it cannot be read.
        NotReadyError: it is not live after LIVE seconds.

    """

    def probe() -> str | None:
        try:
            dag = api.dag(dag_id)
        except UnknownDagError:
            return None
        errors = api.import_errors() if dag.get("has_import_errors", True) else []
        changes = _changes(settings.dags, since=_begun(dag))
        name = str(dag["relative_fileloc"])
        found = judge([dag], errors, {name: changes[name]} if name in changes else {}, dag_sources.listed(settings.state), settings.dags)
        file = next(file for file in found if file.name == name)
        if file.error is not None:
            raise DagFileError(f"{settings.dags / name} cannot be read: {file.error}; correct it.", path=settings.dags / name)
        return None if file.state != "changed" else f"{name} was saved, and has not been parsed since"

    return 0.0 if probe() is None else wait_until(probe, LIVE, f"the new version of {dag_id}", on_wait=on_wait)


def error_in(trace: str, folder: Path) -> str:
    """Return the last line of a traceback and where below `folder` it came from, or where at all."""
    lines = [line.strip() for line in trace.strip().splitlines() if line.strip()]
    places = PLACE.findall(trace)
    own = [place for place in places if Path(place[0]).is_relative_to(folder)] or places
    where = f"{_relative(own[-1][0], folder)}, line {own[-1][1]}: " if own else ""
    return where + (lines[-1] if lines else "no reason given")


def _begun(dag: Mapping[str, Any]) -> float:
    """Return when the parsing of a DAG's file began: what was saved while it went on may have come too late."""
    return (moment(dag["last_parsed_time"]) or 0.0) - (dag.get("last_parse_duration") or 0.0)


def _changes(folder: Path, since: float = 0.0) -> dict[str, float]:
    """Return when each file, or what it uses, was saved last; of what it uses only what happened after `since` counts."""
    saved = dag_sources.saved(folder)
    sources = {name: when for name, when in saved.items() if dag_sources.is_source(name)}
    if max(saved.values(), default=0.0) <= since:  # All files need not be read for that.
        return sources
    words = dag_sources.words(folder, sources)
    # A time in the future, as some archives have, says nothing.
    past = {name: when if when <= time.time() else 0.0 for name, when in saved.items()}
    return {name: max(past[used] for used in dag_sources.used(name, words, saved.keys() - sources.keys())) for name in words}


def _file(
    name: str, dags: Sequence[Mapping[str, Any]], error: Mapping[str, Any] | None, saved: float | None, listing: Listing, folder: Path
) -> DagFile:
    parsed = max((when for dag in dags if (when := moment(dag["last_parsed_time"]))), default=None)
    seconds = max((seconds for dag in dags if (seconds := dag.get("last_parse_duration")) is not None), default=None)
    if error is not None:
        parsed, seconds = moment(error["timestamp"]), None
    # What was saved while it was parsed may have come too late.
    live = parsed is not None and (saved is None or saved <= parsed - (seconds or 0.0))
    if name in listing.ignored:
        state = "ignored"
    elif name in listing.without:
        state = "no DAG"
    elif error is not None:
        state = "error" if live else "changed"
    elif dags:
        state = "live" if live else "changed"
    else:
        state = "no DAG" if name in listing.read else "unread"
    told = error_in(str(error["stack_trace"]), folder) if error is not None and state == "error" else None
    return DagFile(name, state, [Dag(dag["dag_id"], dag["is_paused"]) for dag in dags], saved, parsed, seconds, told)


def _relative(path: str, folder: Path) -> str:
    return path.removeprefix(f"{folder}{os.sep}")
