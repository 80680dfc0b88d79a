"""What Airflow's database knows of tasks, in two questions however many tasks there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from psycopg2.sql import SQL, Composable, Literal

from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.metrics.families import HEARTBEAT_TIMEOUT, MESSAGE_LOST, RUNS, WAITS, WORKER_LOST, Group, Loss, Spread
from airflow_celery_lab.servers import probes

#: A try that has ended stays as it is, here or among the former ones; another one would make a counter go down. Of a task that
#: was deferred, Airflow keeps the first start and the last moment at which it was queued, so that neither time is known.
#: Differences stay intervals, whose sum is exact in any order.
TASKS = SQL("""
SELECT queue, state, count(*) FILTER (WHERE newest), extract(epoch FROM max(now() - queued_dttm) FILTER (WHERE newest AND state = 'queued')),
    ARRAY[{waits}], count(waited), extract(epoch FROM sum(waited)),
    ARRAY[{runs}], count(ran), extract(epoch FROM sum(ran))
FROM (
    SELECT queue, state, newest, queued_dttm,
        CASE WHEN done THEN start_date - queued_dttm END AS waited,
        CASE WHEN done THEN end_date - start_date END AS ran
    FROM (
        SELECT coalesce(queue, '') AS queue, coalesce(state, 'none') AS state, TRUE AS newest, queued_dttm, start_date, end_date,
            state IN ('success', 'failed', 'skipped', 'upstream_failed', 'removed')
            AND hostname <> '' AND queued_dttm <= start_date AND start_date <= end_date AS done
        FROM task_instance
        UNION ALL
        SELECT coalesce(queue, ''), coalesce(state, 'none'), FALSE, queued_dttm, start_date, end_date,
            hostname <> '' AND queued_dttm <= start_date AND start_date <= end_date
        FROM task_instance_history
    ) AS tries
) AS times
GROUP BY queue, state ORDER BY queue, state
""")
#: A worker's entries begin with its name. Those that were found together say the same.
LOSSES = SQL("""
SELECT event, CASE WHEN event = {worker_lost} THEN split_part(extra, ' was lost at ', 1) ELSE '' END, count(*), count(DISTINCT (dttm::date, extra))
FROM log WHERE event IN ({worker_lost}, {heartbeat_timeout}, {message_lost})
GROUP BY 1, 2 ORDER BY 1, 2
""")


def ask(lab: Lab) -> tuple[list[Group], list[Loss]] | str:
    """Return what is known of tasks and of losses, or the reason why that is not known."""
    answers = probes.rows(lab, TASKS.format(waits=_counts("waited", WAITS), runs=_counts("ran", RUNS)), _losses())
    if isinstance(answers, str):
        return answers
    tasks, losses = answers
    return [_group(*row) for row in tasks], [Loss(*row) for row in losses]


def _losses() -> Composable:
    return LOSSES.format(worker_lost=Literal(WORKER_LOST), heartbeat_timeout=Literal(HEARTBEAT_TIMEOUT), message_lost=Literal(MESSAGE_LOST))


def _counts(column: str, bounds: Sequence[float]) -> Composable:
    one = SQL(f"count(*) FILTER (WHERE {column} <= {{}})")
    return SQL(", ").join(one.format(Literal(timedelta(seconds=bound))) for bound in bounds)


def _group(
    queue: str, state: str, tasks: int, oldest: Any, waits: list[int], waited: int, wait: Any, runs: list[int], ran: int, run: Any
) -> Group:
    """Return a row as data; what there is nothing of is null in SQL, and numbers with decimals are Decimals."""
    return Group(queue, state, tasks, float(oldest or 0), Spread(waits, waited, float(wait or 0)), Spread(runs, ran, float(run or 0)))
