"""The command that tries a project on two releases of Airflow."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from airflow_celery_lab.cli.app import Json, app, print_json
from airflow_celery_lab.cli.running import debugging_environment, default_tests
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import FAILED, INTERRUPTED

#: An option of the pytest plugin with which all tests would run on one release.
ONE_LAB = "--lab-home"


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def compare(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A release, such as 3.2, or the folder of a Python environment.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one.")],
    no_tests: Annotated[bool, typer.Option("--no-tests", help="Compare the DAG files alone.")] = False,
    as_json: Json = False,
) -> NoReturn:
    """Compare two releases of Airflow: import the project's DAG files and run its tests on both, and show what differs.

    All other arguments go to pytest. Exits with 0 when nothing that is right on the first one is broken on the second, else with 1.
    """
    from airflow_celery_lab.cli import side_by_side, tables  # What draws takes a while to import, and `--help` does not draw.
    from airflow_celery_lab.releases import installation
    from airflow_celery_lab.releases.comparison import Comparison

    _check(before, after, context.args, no_tests=no_tests)
    with Cluster.open() as cluster:
        settings = cluster.settings
    arguments = None if no_tests else context.args or default_tests(settings.project)
    try:
        installations = [installation.find(name, os.environ) for name in (before, after)]
        for one in installations:  # Before any test: a mistake in the second one shows at once.
            one.set_up()
        comparison = Comparison(*(_side(one, arguments, settings) for one in installations))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    print_json(comparison.as_json()) if as_json else tables.console.print(side_by_side.comparison(comparison))
    raise typer.Exit(FAILED if comparison.broken else 0)


@app.command(name="import-dags", hidden=True)
def import_dags(file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the answer goes, as JSON.")]) -> None:
    """Import the project's DAG files in this one process, on the database for debugging; `compare` reads what came of it."""
    from airflow_celery_lab.inside_airflow import dag_import

    with Cluster.open() as cluster:
        variables = debugging_environment(cluster)
        folder = cluster.settings.dags
    os.environ.update(variables)
    file.write_text(json.dumps(dag_import.examine(folder)), encoding="utf-8")


def _check(before: str, after: str, arguments: list[str], *, no_tests: bool) -> None:
    if before == after:
        raise typer.BadParameter(f"both are {before}; name two releases or environments", param_hint="AFTER")
    if no_tests and arguments:
        raise typer.BadParameter(f"{' '.join(arguments)} would go to pytest; leave out one of the two", param_hint="--no-tests")
    if any(argument.partition("=")[0] == ONE_LAB for argument in arguments):
        raise typer.BadParameter("it names one lab, of one release; leave it out: each release gets a lab of its own", param_hint=ONE_LAB)


def _side(one: Any, arguments: list[str] | None, settings: Settings) -> Any:
    from airflow_celery_lab.releases import reports

    _tell(f"importing the DAG files with {one.name}")
    imported = one.import_dags()
    tested = None
    if arguments is not None:
        _tell(f"running the tests with {one.name}, Airflow {imported['airflow']}")
        tested = one.test(arguments)
    return reports.side(one.name, imported, tested, settings.project, settings.dags)


def _tell(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
