"""What is known of a run, asked of a running lab."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from airflow_celery_lab.cluster import journal, runs
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.timeline import spans
from airflow_celery_lab.timeline.spans import GIVEN_BACK, LOST, RESENT, TAKEN, Recording, Timeline


def timeline(cluster: Cluster, dag_id: str | None = None, run_id: str | None = None) -> Timeline:
    """Return the timeline of a run: the newest of a DAG where no run is named, and the newest of all where no DAG is.

    Raises:
        NotRunningError: the lab does not run.
        UnknownDagError: there is no such DAG.
        UnknownRunError: there is no such run, or none yet.

    """
    cluster.require_running()
    return spans.timeline(record(cluster, runs.find(cluster.api, cluster.settings.dags, dag_id, run_id)))


def record(cluster: Cluster, run: Mapping[str, Any]) -> Recording:
    """Ask for all that is known of `run`, as Airflow describes it: a request for 100 tasks, and one for each that was tried again."""
    api, which = cluster.api, (run["dag_id"], run["dag_run_id"])
    tries: list[Mapping[str, Any]] = []
    for instance in api.task_instances(*which):
        # Airflow's listing has the last one alone.
        tries += [instance] if instance["try_number"] <= 1 else api.tries(*which, instance["task_id"], instance["map_index"])
    events = api.events(*which, *GIVEN_BACK, *LOST, RESENT)
    if any(event["event"] in GIVEN_BACK for event in events):
        events = api.events(*which, TAKEN, *GIVEN_BACK, *LOST, RESENT)
    now, end = time.time(), moment(run["end_date"])
    lived = {name: worker.slots for name, worker in cluster.living().items() if end is None or worker.started < end}
    return Recording(run, tries, events, journal.read(cluster.lab.state), lived, now)
