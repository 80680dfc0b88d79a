"""What all workers did in the last minutes, asked of Airflow's database with one query each for tries and events.

A page asks every few seconds; the REST API, which gives at most 100 tasks at once, would be busy with that alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg2.sql import SQL, Composable, Literal

from airflow_celery_lab.cluster import journal
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.servers import probes
from airflow_celery_lab.timeline import spans
from airflow_celery_lab.timeline.spans import GIVEN_BACK, LOST, RESENT, TAKEN, UNFINISHED, Timeline, Window

#: Tries that are drawn, at most: the newest ones. A page that is drawn anew all the time bears no more.
MOST = 1000
TRY = (
    "dag_id",
    "run_id",
    "task_id",
    "map_index",
    "try_number",
    "queue",
    "state",
    "hostname",
    "scheduled_when",
    "queued_when",
    "start_date",
    "end_date",
)
#: The try that is over of a task that waits for its next one is among the former ones already.
TRIES = SQL("""
SELECT dag_id, run_id, task_id, map_index, try_number, queue, state, hostname, scheduled_dttm, queued_dttm, start_date, end_date
FROM (
    SELECT dag_id, run_id, task_id, map_index, try_number, queue, state, hostname, scheduled_dttm, queued_dttm, start_date, end_date
    FROM task_instance WHERE state IN ({unfinished}) OR (state <> 'up_for_retry' AND end_date >= to_timestamp({since}))
    UNION ALL
    SELECT dag_id, run_id, task_id, map_index, try_number, queue, state, hostname, scheduled_dttm, queued_dttm, start_date, end_date
    FROM task_instance_history WHERE end_date >= to_timestamp({since})
) AS tries
ORDER BY coalesce(end_date, now()) DESC, coalesce(start_date, scheduled_dttm) DESC LIMIT {most}
""")
EVENT = ("dag_id", "run_id", "task_id", "map_index", "try_number", "event", "when", "extra")
EVENTS = SQL("""
SELECT dag_id, run_id, task_id, map_index, try_number, event, dttm, extra
FROM log WHERE dttm >= to_timestamp({since}) AND event IN ({events}) AND run_id IS NOT NULL ORDER BY dttm
""")


def timeline(cluster: Cluster, seconds: float) -> Timeline | str:
    """Return the timeline of the last so many seconds, or the reason why Postgres does not answer."""
    end = time.time()
    start = end - seconds
    tries = TRIES.format(unfinished=_listed(sorted(UNFINISHED)), since=Literal(start), most=Literal(MOST))
    # What a task that gave its slot back did before the window began is told by older events.
    events = EVENTS.format(events=_listed((TAKEN, *GIVEN_BACK, *LOST, RESENT)), since=Literal(start - seconds))
    answers = probes.rows(cluster.lab, tries, events)
    if isinstance(answers, str):
        return answers
    rows, happened = answers
    slots = cluster.slots()
    return spans.recent(Window(list(_rows(TRY, rows)), list(_rows(EVENT, happened)), journal.read(cluster.lab.state), slots, start, end))


def _listed(words: Sequence[str]) -> Composable:
    return SQL(", ").join(map(Literal, words))


def _rows(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Iterator[Mapping[str, Any]]:
    """Yield rows under the names and in the types that Airflow's REST API gives."""
    for row in rows:
        yield {name: value.isoformat() if isinstance(value, datetime) else value for name, value in zip(names, row, strict=True)}
