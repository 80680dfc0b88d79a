"""Whether Airflow's scheduler has anything to do, asked in one short question: a round of its loop asks thirty, for 20 ms of CPU."""

from __future__ import annotations

import time

from airflow.models import asset
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.exc import SQLAlchemyError


def rest(seconds: float, pace: float) -> bool:
    """Return whether there is something to do, as soon as there is; False after so many seconds. Looks every `pace` seconds."""
    end = time.monotonic() + seconds
    try:
        # One connection for all looks: to take it from the pool costs more than a look.
        with create_session() as session:
            connection = session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
            while not (found := bool(connection.scalar(QUESTION))) and (left := end - time.monotonic()) > 0:
                time.sleep(min(pace, left))
            return found
    except SQLAlchemyError:  # The scheduler's next round meets the same, and says so.
        return True


def _anything() -> ColumnElement[bool]:
    """Return the question: is there a run that has not ended, a schedule that is due, or an asset for which a DAG waits."""
    signs = [
        select(DagRun.id).where(DagRun.state == DagRunState.RUNNING).exists(),
        select(DagRun.id).where(DagRun.state == DagRunState.QUEUED).exists(),
        select(DagModel.dag_id)
        .where(DagModel.is_paused.is_(False), DagModel.is_stale.is_(False), DagModel.next_dagrun_create_after <= func.now())
        .exists(),
        select(asset.AssetDagRunQueue.asset_id).exists(),
    ]
    if partitions := getattr(asset, "AssetPartitionDagRun", None):  # Since Airflow 3.2.
        signs.append(select(partitions.id).where(partitions.created_dag_run_id.is_(None)).exists())
    return or_(*signs)


#: Whether there is anything to do.
QUESTION = select(_anything())
