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

from airflow_celery_lab.cli.app import PASS_ON, Json, app, print_json, progress
from airflow_celery_lab.cli.drawing import draw
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.runs import Run
from airflow_celery_lab.configuration import airflow_settings, debugger, environment, observer, roots
from airflow_celery_lab.configuration.settings import BASE_PORTS, Settings
from airflow_celery_lab.errors import FAILED, INTERRUPTED, MissingProgramError, ProjectError

#: Airflow commands that run a task here, and that the scheduler of a running lab would take for its own.
IN_ONE_PROCESS = (["tasks", "test"], ["dags", "test"])
#: Airflow commands that do not look into the database.
OFFLINE = {"version", "config", "info", "cheat-sheet", "plugins", "providers", "--help", "-h"}
#: Gives tests the fixture `airflow_lab`.
PLUGIN = "airflow_celery_lab.testing.plugin"


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
        _wait_until_live(cluster, dag)
        run_id = cluster.trigger(dag, parameters)
        try:
            result = follow(cluster, dag, run_id, quiet=as_json)
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
    what: Annotated[str, typer.Argument(metavar="FILE|DAG", help="A file with a DAG, or a DAG's id.")],
    which: Annotated[
        str | None, typer.Argument(metavar="[DAG|TASK]", help="The DAG of a file that has several; of a DAG, the one task to debug.")
    ] = None,
    conf: Annotated[str, typer.Option(metavar="JSON", help="The run's parameters, of a DAG.")] = "{}",
    port: Annotated[
        int | None,
        typer.Option(metavar="N", min=1024, max=65535, help="Port for the editor, of a DAG (default: 5678 and LAB_PORT_OFFSET)."),
    ] = None,
) -> NoReturn:
    """Run a DAG where a debugger can stop in it: a FILE in this one process, a DAG on a Celery worker of its own. Exits as `run` does.

    A task of a DAG waits on that worker until your editor attaches to the port that is shown; without a TASK, each task
    does. The DAG stays as it is. For a file the lab need not run, and is left alone if it does: the run is kept in a small
    database of its own.
    """
    if what.endswith(".py") or os.sep in what:
        if conf != "{}" or port is not None:
            raise typer.BadParameter("--conf and --port are for a DAG's id, and this is a file", param_hint=what)
        _debug_file(Path(what), which)
    _debug_on_a_worker(what, which, _parse_conf(conf), port)


def _debug_on_a_worker(dag: str, task: str | None, conf: dict[str, Any], port: int | None) -> NoReturn:
    from airflow_celery_lab.cli import tables
    from airflow_celery_lab.cluster import debugging

    with Cluster.open() as cluster:
        offset = cluster.settings.ports.flower - BASE_PORTS["flower"]
        port = port or debugger.PORT + offset
        debugging.require_possible(cluster, dag, task, port)
        _wait_until_live(cluster, dag)
        session = debugging.new_session(dag, task)
        try:
            with debugging.worker(cluster, port, progress("starting the debugger's worker")):
                print(f"lab: {dag} {session.run_id}: {environment.web_url(cluster.lab)}/dags/{dag}/runs/{session.run_id}", flush=True)
                result = debugging.run(cluster, session, conf, _Waiting(cluster, port))
        except KeyboardInterrupt:
            print(f"lab: the debugger has ended, and its worker was killed; the run {session.run_id} goes on without it", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        tables.console.print(tables.run(result))
        raise typer.Exit(0 if result.succeeded else FAILED)


class _Waiting:
    """Says which task waits for the editor, and what keeps others from starting."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self._cluster, self._port = cluster, port
        self._told = ""
        self._obstacles = _Obstacles()

    def __call__(self, result: Run) -> None:
        self._obstacles(result)
        task = debugger.waiting(self._cluster.lab.state)
        if task and task != self._told:
            print(f"lab: {task} waits on the worker {debugger.NAME}; attach your editor to 127.0.0.1:{self._port}", flush=True)
        self._told = task


def _debug_file(file: Path, dag: str | None) -> NoReturn:
    from airflow_celery_lab.inside_airflow import debugging

    with Cluster.open() as cluster:
        variables = debugging_environment(cluster)
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
                f"and of its connections, variables and pools only those of .env and {airflow_settings.path_of(cluster.settings).name} are there",
                file=sys.stderr,
            )
            variables = debugging_environment(cluster)
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
        str | None,
        typer.Option(
            "--airflow", metavar="RELEASE", help="Run them on this release of Airflow; of the lab's own ones the smoke test alone."
        ),
    ] = None,  # noqa: PT028  # a command, not a test
) -> NoReturn:
    """Run the project's tests, against clusters of their own; arguments go to pytest."""
    project = roots.find_project(os.environ)
    if release is not None:
        _test_on(release, context.args or default_tests(project))
    if importlib.util.find_spec("pytest") is None:
        raise MissingProgramError("pytest is not installed; run `pip install 'airflow-celery-lab[test]'`.")
    # A checkout's environment has the package on its path alone, so pytest does not find the plugin by itself.
    plugin = ["-p", PLUGIN] if roots.checkout() and not _is_checkout(project) else []
    os.chdir(project)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *plugin, *context.args])


def default_tests(project: Path) -> list[str]:
    """Return pytest's arguments for a project on another release: of the lab's own tests the smoke test, which takes a minute."""
    return ["-m", "smoke"] if _is_checkout(project) else []


def _is_checkout(project: Path) -> bool:
    own = roots.checkout()
    return own is not None and own.samefile(project)


def _test_on(release: str, arguments: list[str]) -> NoReturn:
    """Run the tests in the environment of another release, which a checkout's script makes where it is missing."""
    checkout = roots.checkout()
    if checkout is None:
        raise ProjectError(
            "--airflow needs a checkout, which has an environment for each release; here, install the release that you want."
        )
    script = str(checkout / "lab")
    os.execve(script, [script, "test", *arguments], {**os.environ, "LAB_AIRFLOW": release})


def _wait_until_live(cluster: Cluster, dag: str) -> None:
    said: list[str] = []

    def say(reason: str) -> None:
        if not said:
            said.append(reason)
            print(f"lab: {reason}; waiting", file=sys.stderr, flush=True)

    if seconds := cluster.wait_until_live(dag, say):
        print(f"lab: the new version of {dag} is live after {seconds:.1f} s", file=sys.stderr, flush=True)


def follow(cluster: Cluster, dag: str, run_id: str, *, quiet: bool) -> Run:
    """Watch a run until it has ended, and return it; show its address and its progress if not `quiet`.

    Raises:
        LabError: Airflow has not answered for a minute, or the lab was stopped.

    """
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


def debugging_environment(cluster: Cluster) -> dict[str, str]:
    """Return the environment in which Airflow uses the database for debugging; it is made where it is missing."""
    from airflow_celery_lab.servers import applied_settings, schema

    variables = cluster.environment()
    database = schema.debugging_database(cluster.lab.state, variables)
    variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = schema.sqlite(database)
    settings = airflow_settings.of(cluster.settings)
    done = applied_settings.apply(cluster.lab, applied_settings.of_file(database), variables)
    for sentence in (*settings.refused, *done.failed):
        print(f"lab: warning: {sentence}", file=sys.stderr)
    return variables


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
