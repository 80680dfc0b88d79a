"""The tasks of an experiment as data, and the DAG file that makes them. Imports nothing of Airflow's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

TEMPLATE = '''"""Written by `lab {by}`, and deleted when that ends. Its tasks do nothing but take their time."""

from airflow_celery_lab.inside_airflow.experiment_dag import experiment_dag
from airflow_celery_lab.inside_airflow.experiment_groups import Group

dag = experiment_dag({dag_id!r}, [
{groups}
])
'''


@dataclass(frozen=True)
class Group:
    """Tasks that are alike, and that do not wait for each other."""

    name: str  #: their task id; more than one are mapped
    queue: str
    seconds: float  #: that each takes
    tasks: int = 1
    deferred: bool = False  #: they wait with the triggerer, and not in a worker's slot
    after: str = ""  #: the group whose end they wait for
    priority: int = 1  #: `priority_weight`
    pool: str = "default_pool"

    def __str__(self) -> str:
        given = ((field, getattr(self, field.name)) for field in fields(self))
        return f"Group({', '.join(f'{field.name}={value!r}' for field, value in given if value != field.default)})"


def source(dag_id: str, groups: Sequence[Group], by: str = "experiment") -> str:
    """Return the DAG file; `by` is the command that brings it."""
    return TEMPLATE.format(by=by, dag_id=dag_id, groups="\n".join(f"    {group}," for group in groups))
