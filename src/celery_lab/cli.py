"""The command line: thin over the cluster handle."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Annotated, Any, NoReturn

import typer
from rich.live import Live

from celery_lab import (
    background,
    credentials,
    display,
    doctor,
    experiments,
    faults,
    preflight,
    procfile,
    registry,
    runs,
    settings,
    supervisor,
)
from celery_lab.cluster import Cluster
from celery_lab.credentials import ADMIN
from celery_lab.errors import AlreadyRunningError, LabError, NotReadyError, NotRunningError
from celery_lab.settings import PROJECT
from celery_lab.status import Status

app = typer.Typer(
    name="lab",
    help="A whole Airflow CeleryExecutor cluster on one machine, without a container per service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]

#: More processes of one kind than a machine can bear; a bound for slips of the finger.
MOST = 99

Name = Annotated[str, typer.Argument(help="A process, as `lab status` names it.")]
Names = Annotated[list[str], typer.Argument(help="Processes, as `lab status` names them.")]

#: Airflow commands that do not look into the database.
OFFLINE = {"version", "config", "info", "cheat-sheet", "plugins", "providers", "--help", "-h"}


def main(arguments: list[str]) -> int:
    """Run one command and return its exit status.

    Raises:
        LabError: what the user can mend.

    """
    try:
        app(arguments, prog_name="lab")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:  # As with `lab status | head`: nobody reads on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background, under supervisord; return when ready.")] = False,
    scale: Annotated[list[str] | None, typer.Option("--scale", "-c", metavar="NAME=N", help="Run a line of the Procfile N times.")] = None,
) -> None:
    """Run the whole cluster: in the foreground until Ctrl-C, or in the background."""
    config = settings.load(os.environ)
    counts = dict(_count(item) for part in scale or [] for item in part.split(","))
    lines = procfile.read()
    expected = procfile.expected(lines, counts)
    credentials.load_or_create(config.home)
    if detach:
        begin = time.monotonic()
        with Cluster.open() as cluster:
            background.up(cluster, supervisor.wanted(lines, counts), expected)
            background.say(_welcome(cluster, time.monotonic() - begin, last="./lab down"))
        return
    preflight.check(config, expected)
    arguments = ["-c", ",".join(f"{name}={number}" for name, number in counts.items())] if counts else []
    os.execv(sys.executable, [sys.executable, "-m", "celery_lab", "foreground", *arguments])


@app.command()
def down(
    timeout: Annotated[
        float | None, typer.Option("--timeout", "-t", help="Seconds for running tasks to end (default: LAB_STOP_TIMEOUT).")
    ] = None,
) -> None:
    """Stop the cluster in the background: workers finish their tasks, Postgres and Redis end last."""
    with Cluster.open() as cluster:
        background.down(cluster, timeout)


@app.command()
def start(names: Names) -> None:
    """Start processes of the running cluster, and wait until they are ready."""
    with Cluster.open() as cluster:
        background.require_known(cluster, names)
        cluster.supervisor.launch(names)
        background.wait_for(cluster, names)


@app.command()
def stop(names: Names) -> None:
    """Stop processes of the running cluster; a worker finishes its tasks first."""
    with Cluster.open() as cluster:
        background.require_known(cluster, names)
        cluster.supervisor.stop(names, background.progress("stopping"))
        background.say(f"lab: stopped {', '.join(names)}")


@app.command()
def restart(names: Names) -> None:
    """Stop processes of the running cluster, start them again, and wait until they are ready."""
    with Cluster.open() as cluster:
        background.require_known(cluster, names)
        cluster.supervisor.stop(names, background.progress("stopping"))
        cluster.supervisor.launch(names)
        background.wait_for(cluster, names)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A process (default: all).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Lines to begin with.")] = 20,
) -> None:
    """Show what processes of the background cluster have printed."""
    with Cluster.open() as cluster:
        known = [path.stem for path in sorted(cluster.supervisor.logs.glob("*.log"))]
        if name is not None and name not in known:
            raise NotRunningError(f"there is no log of {name!r} in {cluster.supervisor.logs}; there is: {', '.join(known) or 'none yet'}.")
        background.show_logs(cluster, [name] if name else known, tail, follow=follow)


@app.command()
def apply() -> None:
    """Bring an edited Procfile about in the running cluster, touching only what differs."""
    with Cluster.open() as cluster:
        background.apply(cluster, supervisor.wanted(procfile.read()))


@app.command(name="scale")
def scale_command(
    counts: Annotated[list[str], typer.Argument(metavar="NAME=N...", help="A line of the Procfile, and how many times it shall run.")],
) -> None:
    """Run a line of the Procfile N times, until `apply` or `down`."""
    with Cluster.open() as cluster:
        lines = procfile.read()
        background.require(cluster)
        target = cluster.supervisor.programs
        for name, number in map(_count, counts):
            target = supervisor.scaled(target, lines, name, number)
        background.apply(cluster, target)


@app.command()
def kill(name: Name) -> None:
    """Kill a process with all that descends from it, at one moment, as a lost machine."""
    with Cluster.open() as cluster:
        background.say(f"lab: killed {name}: {faults.kill(cluster, name)} processes")


@app.command()
def pause(name: Name) -> None:
    """Stop a process in its tracks, as a hung machine."""
    with Cluster.open() as cluster:
        background.say(f"lab: paused {name}: {faults.pause(cluster, name)} processes; `./lab resume {name}` lets it go on")


@app.command()
def resume(name: Name) -> None:
    """Let a paused process go on."""
    with Cluster.open() as cluster:
        background.say(f"lab: resumed {name}: {faults.resume(cluster, name)} processes")


@app.command()
def experiment(
    names: Annotated[list[str] | None, typer.Argument(metavar="FAULT...", help="Faults (default: all).")] = None,
    times: Annotated[int, typer.Option("--trials", "-n", min=1, help="How often each.")] = 1,
    as_json: Json = False,
) -> NoReturn:
    """Break the background cluster under load, and show what each fault cost. Exits with 1 if a task was lost."""
    with Cluster.open() as cluster:
        background.require(cluster)
        done = []
        for trial in experiments.trials(cluster, experiments.chosen(names or []), times):
            done.append(trial)
            print(f"lab: {display.trial(trial)}", file=sys.stderr, flush=True)
        rows = experiments.summary(done)
        _print_json([vars(row) for row in rows]) if as_json else display.console.print(display.rows(rows))
        raise typer.Exit(0 if all(row.recovered == row.trials and not row.lost for row in rows) else 1)


@app.command()
def export() -> None:
    """Write supervisord.conf anew from the Procfile, as `honcho export` does."""
    procfile.read()
    command = [
        sys.executable,
        "-m",
        "honcho",
        "export",
        "-a",
        "supervisord",
        "-t",
        "config/supervisord",
        "-l",
        "%(here)s/.lab",
        "supervisord",
        ".",
    ]
    os.chdir(PROJECT)
    os.execv(sys.executable, command)


@app.command()
def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
) -> NoReturn:
    """Show each process, worker and queue, and what is wrong. Exits with 0 when all is ready."""
    with Cluster.open() as cluster:
        now = cluster.status()
        if watch:
            _watch(cluster, now)
        _print_json(now.as_json()) if as_json else display.console.print(display.status(now))
        running = any(process.state != "stopped" for process in now.processes)
        raise typer.Exit(0 if now.ready else NotReadyError.status if running else NotRunningError.status)


@app.command()
def wait(
    timeout: Annotated[float | None, typer.Option(help="Seconds (default: LAB_START_TIMEOUT).")] = None,
    announce: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Wait until the cluster is ready, and say where it is."""
    with Cluster.open() as cluster:
        if not announce:
            cluster.require_running()
        start = time.monotonic()
        cluster.wait_until_ready(timeout, on_wait=background.progress("waiting"))
        started = time.monotonic() - start
        end = "./lab down" if cluster.supervisor.running else "Ctrl-C"
        background.say(_welcome(cluster, started if announce else None, last=end))


@app.command()
def run(
    dag: Annotated[str, typer.Argument(help="Id of the DAG.")],
    conf: Annotated[str, typer.Option(metavar="JSON", help="The run's parameters, such as '{\"tasks\": 40}'.")] = "{}",
    as_json: Json = False,
) -> NoReturn:
    """Run a DAG, show how it gets on, and who ran what. Exits with 0 when the run succeeded, else with 1."""
    parameters = _parse_conf(conf)
    with Cluster.open() as cluster:
        cluster.require_running()
        run_id = runs.start(cluster, dag, parameters)
        try:
            result = _follow(cluster, dag, run_id, quiet=as_json)
        except KeyboardInterrupt:
            print(f"lab: the run {run_id} goes on; see {cluster.settings.url('webserver')}/dags/{dag}/runs/{run_id}", file=sys.stderr)
            raise typer.Exit(130) from None
        _print_json(result.as_json()) if as_json else display.console.print(display.run(result))
        raise typer.Exit(0 if result.state == "success" else 1)


@app.command(context_settings=PASS_ON)
def airflow(context: typer.Context) -> NoReturn:
    """Run any Airflow command in the lab's environment."""
    with Cluster.open() as cluster:
        if not OFFLINE.intersection(context.args[:1]) and context.args:
            cluster.require_running()
        _become(cluster, ["airflow", *context.args])


@app.command(context_settings=PASS_ON)
def celery(context: typer.Context) -> NoReturn:
    """Run any Celery command against the lab's broker, such as `inspect ping`."""
    with Cluster.open() as cluster:
        _become(cluster, ["celery", *context.args])


@app.command()
def setup() -> None:
    """Make the Python environment, print its folder, and start nothing."""
    print(sys.prefix)  # For `--help`: the script `lab` does this before it comes to us.


@app.command()
def password() -> None:
    """Print the password of the user `admin`, for Airflow and Flower."""
    with Cluster.open() as cluster:
        print(cluster.credentials.admin_password)


@app.command(name="doctor")
def doctor_command(as_json: Json = False) -> NoReturn:
    """Say what is wrong with this machine or configuration, and what to do."""
    findings = doctor.examine(os.environ)
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            display.console.print(
                f"{'ok  ' if finding.ok else 'BAD '} {finding.what}: {finding.detail}", style="" if finding.ok else "red", markup=False
            )
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@app.command(context_settings=PASS_ON)
def test(context: typer.Context) -> NoReturn:
    """Run the tests, against clusters of their own; arguments go to pytest."""
    os.chdir(PROJECT)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *context.args])


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the state folder: the database, the queue, logs, histories and secrets."""
    config = settings.load(os.environ)
    if not config.home.exists():
        print(f"lab: there is nothing in {config.home}")
        return
    if registry.running(config.home):
        raise AlreadyRunningError(f"the lab in {config.home} is running; stop it first.")
    made_by_setup = {supervisor.LOGS}
    if not (config.home / credentials.FILE).exists() and {path.name for path in config.home.iterdir()} - made_by_setup:
        raise LabError(f"{config.home} does not look like the state of a lab; delete it yourself if you mean it.")
    if not yes:
        typer.confirm(f"Delete {config.home} with the database, all logs and secrets?", abort=True)
    shutil.rmtree(config.home)
    print(f"lab: deleted {config.home}")


def _welcome(cluster: Cluster, seconds: float | None, last: str = "Ctrl-C") -> str:
    config = cluster.settings
    took = f" after {seconds:.1f} s" if seconds is not None else ""
    return "\n".join(
        [
            f"lab: ready{took}: {len(cluster.records)} processes",
            f"lab:   Airflow   {config.url('webserver')}   user {ADMIN}, password: ./lab password",
            f"lab:   Flower    {config.url('flower')}   the same user and password",
            f"lab:   next      ./lab run parallel_tasks      ./lab status      {last} stops all",
        ]
    )


def _watch(cluster: Cluster, now: Status) -> NoReturn:
    try:
        with Live(display.status(now), console=display.console, auto_refresh=False) as live:
            while True:
                time.sleep(1)
                live.update(display.status(cluster.status()), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _follow(cluster: Cluster, dag: str, run_id: str, *, quiet: bool) -> runs.Run:
    if quiet:
        return runs.follow(cluster, dag, run_id, lambda _: None)
    display.console.print(f"{dag} {run_id}: {cluster.settings.url('webserver')}/dags/{dag}/runs/{run_id}", markup=False)
    if not display.console.is_terminal:
        return runs.follow(cluster, dag, run_id, lambda _: None)
    with Live(console=display.console, transient=True) as live:
        return runs.follow(cluster, dag, run_id, lambda result: live.update(display.progress(result)))


def _become(cluster: Cluster, command: list[str]) -> NoReturn:
    variables = cluster.environment()
    cluster.close()
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", *command], variables)


def _parse_conf(text: str) -> dict[str, Any]:
    try:
        conf = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}; write for example '{{\"tasks\": 40}}'", param_hint="--conf") from error
    if not isinstance(conf, dict):
        raise typer.BadParameter("it is JSON, but not an object; write for example '{\"tasks\": 40}'", param_hint="--conf")
    return conf


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or not 0 <= int(number) <= MOST:
        raise typer.BadParameter(f"{text!r} is not NAME=N with N from 0 to {MOST}", param_hint="--scale")
    return name, int(number)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2))
