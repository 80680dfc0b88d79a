"""The DAG of an experiment, made of its groups of tasks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, Context

from airflow_celery_lab.inside_airflow.experiment_groups import Group


class TakesTime(BaseOperator):
    """Takes some seconds, in a worker's slot or with the triggerer."""

    def __init__(self, *, seconds: float, deferred: bool, number: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.seconds = seconds
        self.deferred = deferred
        self.number = number

    def execute(self, context: Context) -> None:  # noqa: ARG002  # Airflow's signature
        """Wait."""
        if self.deferred:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.seconds)), method_name="resumed")
        time.sleep(self.seconds)

    def resumed(self, context: Context, event: Any = None) -> None:
        """End after a wait with the triggerer."""


def experiment_dag(dag_id: str, groups: Sequence[Group]) -> DAG:
    """Return a DAG with a task, mapped where there are several, for each group."""
    # No other delay than the cluster's own: that is what is measured. A task may lose its worker twice.
    with DAG(dag_id, schedule=None, tags=["lab"], default_args={"retries": 2, "retry_delay": timedelta(0)}) as dag:
        made: dict[str, Any] = {}
        for group in groups:
            options: dict[str, Any] = {
                "task_id": group.name,
                "queue": group.queue,
                "pool": group.pool,
                "priority_weight": group.priority,
                # The number that is written down counts, and not the sum of it and of all that comes after.
                "weight_rule": "absolute",
                "seconds": group.seconds,
                "deferred": group.deferred,
            }
            made[group.name] = (
                TakesTime.partial(**options).expand(number=list(range(group.tasks))) if group.tasks > 1 else TakesTime(**options)
            )
            if group.after:
                made[group.after] >> made[group.name]
    return dag
