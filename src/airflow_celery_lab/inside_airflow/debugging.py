"""Runs a DAG in one process, where a debugger can stop in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from airflow_celery_lab.errors import DagFileError


def run(file: Path, dag_id: str | None) -> str:
    """Run the DAG of `file`, and return the state of the run. Airflow's settings are read from the environment.

    Raises:
        DagFileError: the file has no such DAG, or more than one to choose from.

    """
    # Airflow reads its settings while it is imported.
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ModuleNotFoundError:  # It stands elsewhere in Airflow 3.1.
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    # Where the lab's DAGs import from.
    sys.path.append(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    bag = DagBag(dag_folder=file)
    if bag.import_errors:
        print(*bag.import_errors.values(), sep="\n", flush=True)
        raise DagFileError(f"{file} cannot be read; Airflow's own words stand above.", path=file)
    if not bag.dags:
        raise DagFileError(f"there is no DAG in {file}; name the file of one.", path=file)
    if dag_id is None and len(bag.dags) == 1:
        dag_id = next(iter(bag.dags))
    if dag_id not in bag.dags:
        raise DagFileError(f"{file} has the DAGs {', '.join(bag.dags)}; name one of them after the file.", path=file)
    state = str(bag.dags[dag_id].test().state)
    print(f"lab: {dag_id}: {state}", flush=True)
    return state
