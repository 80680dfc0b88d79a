"""Commands that run something in the lab: DAGs, Airflow's and Celery's own commands, tests."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from airflow_celery_lab.cli.app import PASS_ON, Json, app, print_json
from airflow_celery_lab.cli.drawing import draw
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.configuration import airflow_settings, environment, observer, roots
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.errors import FAILED, INTERRUPTED, MissingProgramError, ProjectError

#: Airflow commands that run a task here, and that the scheduler of a running lab would take for its own.
IN_ONE_PROCESS = (["tasks", "test"], ["dags", "test"])
#: Airflow commands that do not look into the database.
OFFLINE = {"version", "config", "info", "cheat-sheet", "plugins", "providers", "--help", "-h"}


@app.command()
def run(
    dag: Annotated[str, typer.Argument(help="Id of the DAG.")],
    conf: Annotated[str, typer.Option(metavar="JSON", help="The run's parameters, such as '{\"tasks\": 40}'.")] = "{}",
    as_json: Json = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Draw its timeline, and print the page's path.")] = False,
    show: Annotated[bool, typer.Option("--open", help="Draw its timeline, and open the page in the browser.")] = False,
) -> NoReturn:
    """Run a DAG, show its progress, and who ran what. Exits with 0 when the run succeeded, else with 1."""
    from airflow_celery_lab.cli import tables  # Here and below: what draws takes a while to import, and `--help` does not draw.

    parameters = _parse_conf(conf)
    with Cluster.open() as cluster:
        cluster.require_running()
        for warning in cluster.warnings_about(dag):
            print(f"lab: {warning}", file=sys.stderr, flush=True)
        run_id = cluster.trigger(dag, parameters)
        try:
            result = _follow(cluster, dag, run_id, quiet=as_json)
        except KeyboardInterrupt:
            print(f"lab: the run {run_id} goes on; see {environment.web_url(cluster.lab)}/dags/{dag}/runs/{run_id}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        print_json(result.as_json()) if as_json else tables.console.print(tables.run(result))
        if timeline or show:
            from airflow_celery_lab.timeline import recording

            print(draw(cluster, recording.timeline(cluster, dag, run_id), show=show), file=sys.stderr if as_json else sys.stdout)
        raise typer.Exit(0 if result.succeeded else FAILED)


@app.command()
def debug(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file with a DAG.")],
    dag: Annotated[str | None, typer.Argument(metavar="DAG", help="Its id, where the file has several.")] = None,
) -> NoReturn:
    """Run the DAG of a file in this one process, where a debugger can stop in it. Exits as `run` does.

    The lab need not run, and is left alone if it does: the run is kept in a small database of its own, as the lab's
    scheduler would hand a run in its database to the workers too.
    """
    from airflow_celery_lab.inside_airflow import debugging

    with Cluster.open() as cluster:
        variables = cluster.environment()
        variables |= _debugging(cluster, variables)
        folder = _dags_folder(cluster.settings, file)
    os.environ.update(variables, AIRFLOW__CORE__DAGS_FOLDER=str(folder))
    raise typer.Exit(0 if debugging.run(file.resolve(), dag) == "success" else FAILED)


@app.command(context_settings=PASS_ON)
def airflow(context: typer.Context) -> NoReturn:
    """Run any Airflow command in the lab's environment."""
    with Cluster.open() as cluster:
        variables = cluster.environment()
        if context.args[:2] in IN_ONE_PROCESS:
            print(
                "lab: this runs in one process, on a small database of its own: the lab's scheduler keeps its hands off it, "
                f"and of its connections, variables and pools only those of .env and {airflow_settings.FILE} are there",
                file=sys.stderr,
            )
            variables |= _debugging(cluster, variables)
        elif not OFFLINE.intersection(context.args[:1]) and context.args:
            cluster.require_running()
        _become(cluster, ["airflow", *_of_this_lab(context.args)], variables)


@app.command(context_settings=PASS_ON)
def celery(context: typer.Context) -> NoReturn:
    """Run any Celery command against the lab's broker, such as `inspect ping`."""
    with Cluster.open() as cluster:
        _become(cluster, ["celery", *context.args], {observer.VARIABLE: observer.MODULE, **cluster.environment()})


@app.command(context_settings=PASS_ON)
def test(  # a command, not a test
    context: typer.Context,
    release: Annotated[
        str | None, typer.Option("--airflow", metavar="RELEASE", help="Run them, or the smoke test alone, on this release of Airflow.")
    ] = None,  # noqa: PT028  # a command, not a test
) -> NoReturn:
    """Run the project's tests, against clusters of their own; arguments go to pytest."""
    if release is not None:
        _test_on(release, context.args or ["-m", "smoke"])
    project = roots.find_project(os.environ)
    if importlib.util.find_spec("pytest") is None:
        raise MissingProgramError("pytest is not installed; run `pip install 'airflow-celery-lab[test]'`.")
    os.chdir(project)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *context.args])


def _test_on(release: str, arguments: list[str]) -> NoReturn:
    """Run the tests in the environment of another release, which a checkout's script makes where it is missing."""
    checkout = roots.checkout()
    if checkout is None:
        raise ProjectError(
            "--airflow needs a checkout, which has an environment for each release; here, install the release that you want."
        )
    script = str(checkout / "lab")
    os.execve(script, [script, "test", *arguments], {**os.environ, "LAB_AIRFLOW": release})


def _follow(cluster: Cluster, dag: str, run_id: str, *, quiet: bool) -> Run:
    from rich.live import Live

    from airflow_celery_lab.cli import tables

    if not quiet:
        # In one piece, however long it is: it can be clicked on.
        tables.console.print(f"{dag} {run_id}: {environment.web_url(cluster.lab)}/dags/{dag}/runs/{run_id}", markup=False, soft_wrap=True)
    if quiet or not tables.console.is_terminal:
        return cluster.follow(dag, run_id, _Obstacles())
    with Live(console=tables.console, transient=True) as live:
        return cluster.follow(dag, run_id, lambda result: live.update(tables.progress(result)))


class _Obstacles:
    """Says once for each task what keeps it from starting, where a run that cannot end would be silent."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, result: Run) -> None:
        for name, reason in result.reasons.items():
            if result.state == "running" and name not in self._said:
                self._said.add(name)
                print(f"lab: {name}: {reason}", file=sys.stderr, flush=True)


def _debugging(cluster: Cluster, variables: dict[str, str]) -> dict[str, str]:
    """Return what makes Airflow use the database for debugging; it is made where it is missing."""
    from airflow_celery_lab.servers import applied_settings, schema

    database = schema.debugging_database(cluster.lab.state, variables)
    own = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": schema.sqlite(database)}
    settings = airflow_settings.of(cluster.settings)
    done = applied_settings.apply(cluster.lab, applied_settings.of_file(database), {**variables, **own})
    for sentence in (*settings.refused, *done.failed):
        print(f"lab: warning: {sentence}", file=sys.stderr)
    return own


def _of_this_lab(words: list[str]) -> list[str]:
    """Return an Airflow command in which "on this host" means: in this lab.

    As in the health checks of Airflow's docker compose file. Its components go by the names of their processes, and not
    by the machine's; all that have a job in this database are on it.
    """
    if words[:2] != ["jobs", "check"]:
        return words
    here = {"--local", f"--hostname={socket.gethostname()}"}
    kept, pending = [], list(words)
    while pending:
        word = pending.pop(0)
        if word == "--hostname" and pending[:1] == [socket.gethostname()]:
            pending.pop(0)
        elif word not in here:
            kept.append(word)
    return kept


def _become(cluster: Cluster, command: list[str], variables: dict[str, str]) -> NoReturn:
    cluster.close()
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", *command], variables)


def _dags_folder(settings: Settings, file: Path) -> Path:
    return settings.dags if file.resolve().is_relative_to(settings.dags.resolve()) else file.resolve().parent


def _parse_conf(text: str) -> dict[str, Any]:
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}; write for example '{{\"tasks\": 40}}'", param_hint="--conf") from error
    if not isinstance(conf, dict):
        raise typer.BadParameter("it is JSON, but not an object; write for example '{\"tasks\": 40}'", param_hint="--conf")
    return conf
