"""The DAG folder, which Airflow looks through as soon as something in it was saved (`[dag_processor] dag_bundle_config_list`).

Airflow's own bundle is looked through every few seconds whether or not anything has changed, which costs more the more
often it is done, and a module beside the DAGs is no reason for Airflow to parse a DAG again before its time.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle

from airflow_celery_lab.configuration import settings
from airflow_celery_lab.inside_airflow import dag_sources
from airflow_celery_lab.inside_airflow.dag_sources import Listing
from airflow_celery_lab.inside_airflow.parse_requests import ParseRequests


class DagFolder(LocalDagBundle):
    """A folder of DAG files. Airflow makes one wherever it reads a DAG; only the dag-processor asks when to refresh it."""

    def __init__(self, **options: Any) -> None:
        self._interval = 0
        self._saved: dict[str, float] | None = None
        self._requests = ParseRequests()
        super().__init__(**options)

    @property
    def refresh_interval(self) -> int:
        """The seconds between two refreshes; none as long as a change has not been taken in.

        Airflow asks once a second (`[dag_processor] bundle_refresh_check_interval`).
        """
        changed = self._saved != dag_sources.saved(self.path)
        return 0 if changed or self._requests.is_due(time.time()) else self._interval

    @refresh_interval.setter
    def refresh_interval(self, seconds: int) -> None:
        self._interval = seconds

    def refresh(self) -> None:
        """Let Airflow parse again what was saved, and what uses it. New files it finds by itself after this."""
        now = dag_sources.saved(self.path)
        before, self._saved = self._saved, now
        sources = {name for name in now if dag_sources.is_source(name)}
        listing = self._listing(sources)
        dag_sources.publish(settings.load(os.environ).state, listing)
        if before is not None and (changed := dag_sources.changed(before, now)):
            users = dag_sources.users(changed, dag_sources.words(self.path, sources)).intersection(listing.read)
            # Airflow may have found a new one before this look, and parsed it before another file was saved.
            self._requests.add(users, users - before.keys(), time.time())
        if self._requests.names:
            self._request(self._requests.take(self._begun(self._requests.names), time.time()))

    def _listing(self, sources: set[str]) -> Listing:
        from airflow.utils.file import list_py_file_paths

        heeded, read = (
            {os.path.relpath(path, self.path) for path in list_py_file_paths(self.path, **options)}
            for options in ({"safe_mode": False}, {})
        )
        return Listing(sorted(read), sorted((heeded & sources) - read), sorted(sources - heeded))

    def _begun(self, names: set[str]) -> dict[str, float]:
        """Return when the last parsing of each file with a DAG began."""
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        query = select(DagModel.relative_fileloc, DagModel.last_parsed_time, DagModel.last_parse_duration).where(
            DagModel.bundle_name == self.name, DagModel.relative_fileloc.in_(names)
        )
        with create_session() as session:
            return {str(name): ended.timestamp() - (took or 0.0) for name, ended, took in session.execute(query) if ended}

    def _request(self, names: set[str]) -> None:
        """Ask as Airflow's web interface does, when "Reparse DAG" is clicked.

        Of a file that was saved while it was parsed, Airflow by itself would not notice.
        """
        from airflow.models.dagbag import DagPriorityParsingRequest
        from airflow.utils.session import create_session
        from sqlalchemy.exc import IntegrityError

        for name in sorted(names):
            with suppress(IntegrityError), create_session() as session:  # Somebody has clicked there just now.
                session.add(DagPriorityParsingRequest(self.name, name))
