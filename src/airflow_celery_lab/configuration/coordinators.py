"""Which of Airflow's coordinators runs the tasks of a queue: settings of Airflow 3.3 and later, which others do not read."""

from __future__ import annotations

import json
from collections.abc import Iterable

#: The coordinators by their names, and the one of a queue.
ALL, OF_QUEUES = "AIRFLOW__SDK__COORDINATORS", "AIRFLOW__SDK__QUEUE_TO_COORDINATOR"
NAME, CLASS = "lab", "airflow_celery_lab.inside_airflow.coordinator.Coordinator"


def of(queues: Iterable[str]) -> dict[str, str]:
    """Return the variables by which the lab's coordinator runs the tasks of these queues; of all others Airflow's does."""
    return {ALL: json.dumps({NAME: {"classpath": CLASS}}), OF_QUEUES: json.dumps(dict.fromkeys(queues, NAME))}
