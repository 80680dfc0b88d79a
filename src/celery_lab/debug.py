"""`python -m celery_lab.debug FILE`: run the DAG of a file in this one process, where a debugger can stop in it.

For editors (.vscode/launch.json) and `breakpoint()`. The lab need not run, and is left alone if it does: the run is
kept in a small database of its own, as the lab's scheduler would hand a run in its database to the workers too.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from celery_lab.cluster import Cluster
from celery_lab.credentials import make_private_folder
from celery_lab.errors import LabError
from celery_lab.settings import Settings


def main(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file with a DAG.")],
    dag: Annotated[str | None, typer.Argument(metavar="DAG", help="Its id, where the file has several.")] = None,
) -> None:
    """Run the DAG of a file in this process. Exits with 0 when the run succeeded, else with 1."""
    try:
        with Cluster.open() as cluster:
            environment, folder = cluster.environment(), _dags_folder(cluster.settings, file)
            database = make_database(cluster.settings, environment)
        os.environ.update(environment, AIRFLOW__CORE__DAGS_FOLDER=str(folder), AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database)
        state = run(file.resolve(), dag)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        raise typer.Exit(error.status) from None
    raise typer.Exit(0 if state == "success" else 1)


def make_database(settings: Settings, environment: dict[str, str]) -> str:
    """Return the address of a database with the schema of the installed Airflow, made where it is missing.

    Raises:
        LabError: Airflow could not make it.

    """
    folder = settings.home / "debug"
    make_private_folder(folder)
    path = folder / f"airflow-{version('apache-airflow-core')}.db"
    if not path.exists():
        print("lab: making a database for debugging, once", flush=True)
        draft = folder / f"draft-{os.getpid()}.db"
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        variables = {**environment, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{draft}"}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout, done.stderr, flush=True)
            raise LabError(f"Airflow could not make the database {draft}; its own words stand above.")
        draft.rename(path)
    return f"sqlite:///{path}"


def run(file: Path, dag_id: str | None) -> str:
    """Run the DAG of `file`, and return the state of the run.

    Raises:
        LabError: the file has no such DAG, or more than one to choose from.

    """
    # Airflow reads its settings while it is imported.
    from airflow.dag_processing.dagbag import DagBag

    # Where the lab's DAGs import from.
    sys.path.append(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    bag = DagBag(dag_folder=file)
    if bag.import_errors:
        print(*bag.import_errors.values(), sep="\n", flush=True)
        raise LabError(f"{file} cannot be read; Airflow's own words stand above.")
    if not bag.dags:
        raise LabError(f"there is no DAG in {file}; open the file of one.")
    if dag_id is None and len(bag.dags) == 1:
        dag_id = next(iter(bag.dags))
    if dag_id not in bag.dags:
        raise LabError(f"{file} has the DAGs {', '.join(bag.dags)}; name one of them after the file.")
    state = str(bag.dags[dag_id].test().state)
    print(f"lab: {dag_id}: {state}", flush=True)
    return state


def _dags_folder(settings: Settings, file: Path) -> Path:
    return settings.dags if file.resolve().is_relative_to(settings.dags.resolve()) else file.resolve().parent


if __name__ == "__main__":
    typer.run(main)
