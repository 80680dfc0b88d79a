"""The command line: thin over the cluster handle."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, Any, NoReturn

import typer
from rich.live import Live

from celery_lab import credentials, display, doctor, experiments, faults, preflight, procfile, registry, runs, settings, supervisor
from celery_lab.cluster import Cluster
from celery_lab.credentials import ADMIN
from celery_lab.errors import AlreadyRunningError, LabError, NotReadyError, NotRunningError
from celery_lab.services import Service
from celery_lab.settings import PROJECT
from celery_lab.status import Status
from celery_lab.wait import wait_until

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

#: Seconds of silence after which `wait` says what it waits for.
PATIENCE = 10
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
        _up_in_background(supervisor.wanted(lines, counts), expected)
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
        if not cluster.supervisor.running:
            if cluster.records:
                raise LabError(f"the lab in {cluster.settings.home} runs in the foreground; press Ctrl-C there.")
            print(f"lab: the lab in {cluster.settings.home} is not running")
            return
        services = supervisor.services(cluster.supervisor.programs)
        servers = [name for name, service in services.items() if service.stops_last]
        for names in ([name for name in services if name not in servers], servers):
            for late in cluster.supervisor.stop(names, _progress("stopping"), timeout):
                faults.kill(cluster, late)
                _say(f"lab: {late} had to be killed")
        cluster.supervisor.shut_down()
        _say(f"lab: stopped; its state is kept in {cluster.settings.home}")


@app.command()
def start(names: Names) -> None:
    """Start processes of the running cluster, and wait until they are ready."""
    with Cluster.open() as cluster:
        _known(cluster, names)
        cluster.supervisor.launch(names)
        _wait_for(cluster, names)


@app.command()
def stop(names: Names) -> None:
    """Stop processes of the running cluster; a worker finishes its tasks first."""
    with Cluster.open() as cluster:
        _known(cluster, names)
        cluster.supervisor.stop(names, _progress("stopping"))
        _say(f"lab: stopped {', '.join(names)}")


@app.command()
def restart(names: Names) -> None:
    """Stop processes of the running cluster, start them again, and wait until they are ready."""
    with Cluster.open() as cluster:
        _known(cluster, names)
        cluster.supervisor.stop(names, _progress("stopping"))
        cluster.supervisor.launch(names)
        _wait_for(cluster, names)


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
        _show_logs(cluster, [name] if name else known, tail, follow=follow)


@app.command()
def apply() -> None:
    """Bring an edited Procfile about in the running cluster, touching only what differs."""
    with Cluster.open() as cluster:
        _apply(cluster, supervisor.wanted(procfile.read()))


@app.command(name="scale")
def scale_command(
    counts: Annotated[list[str], typer.Argument(metavar="NAME=N...", help="A line of the Procfile, and how many times it shall run.")],
) -> None:
    """Run a line of the Procfile N times, until `apply` or `down`."""
    with Cluster.open() as cluster:
        lines = procfile.read()
        _require_supervisor(cluster)
        target = cluster.supervisor.programs
        for name, number in map(_count, counts):
            target = supervisor.scaled(target, lines, name, number)
        _apply(cluster, target)


@app.command()
def kill(name: Name) -> None:
    """Kill a process with all that descends from it, at one moment, as a lost machine."""
    with Cluster.open() as cluster:
        _say(f"lab: killed {name}: {faults.kill(cluster, name)} processes")


@app.command()
def pause(name: Name) -> None:
    """Stop a process in its tracks, as a hung machine."""
    with Cluster.open() as cluster:
        _say(f"lab: paused {name}: {faults.pause(cluster, name)} processes; `./lab resume {name}` lets it go on")


@app.command()
def resume(name: Name) -> None:
    """Let a paused process go on."""
    with Cluster.open() as cluster:
        _say(f"lab: resumed {name}: {faults.resume(cluster, name)} processes")


@app.command()
def experiment(
    names: Annotated[list[str] | None, typer.Argument(metavar="FAULT...", help="Faults (default: all).")] = None,
    times: Annotated[int, typer.Option("--trials", "-n", min=1, help="How often each.")] = 1,
    as_json: Json = False,
) -> NoReturn:
    """Break the background cluster under load, and show what each fault cost. Exits with 1 if a task was lost."""
    with Cluster.open() as cluster:
        _require_supervisor(cluster)
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
        last = start

        def on_wait(reason: str) -> None:
            nonlocal last
            if time.monotonic() - last > PATIENCE:
                last = time.monotonic()
                _say(f"lab: still waiting after {last - start:.0f} s for {reason}")

        cluster.wait_until_ready(timeout, on_wait=on_wait)
        since = min(record.since for record in cluster.records.values())
        started = time.monotonic() - start if announce else time.time() - since
        _say(_welcome(cluster, started if announce else None))


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
    if not (config.home / credentials.FILE).exists() and any(config.home.iterdir()):
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


def _up_in_background(programs: supervisor.Programs, expected: dict[str, Service]) -> None:
    with Cluster.open() as cluster:
        begin = time.monotonic()
        states = cluster.supervisor.states()
        if states:
            if supervisor.plan(cluster.supervisor.programs, programs):
                _say("lab: runs already, with other processes than the Procfile names: `./lab apply` brings it about")
            cluster.supervisor.launch(name for name, state in states.items() if state in {"STOPPED", "EXITED", "FATAL"})
            expected = supervisor.services(cluster.supervisor.programs)
        else:
            preflight.check(cluster.settings, expected)
            cluster.supervisor.start(programs, os.environ)
        _wait_for(cluster, list(expected))
        _say(_welcome(cluster, time.monotonic() - begin, last="./lab down"))


def _wait_for(cluster: Cluster, names: list[str]) -> None:
    """Wait until `names` are ready; show the end of the log of what is not.

    Raises:
        NotReadyError: one of them failed, or it took longer than LAB_START_TIMEOUT.

    """
    progress = _progress("waiting for")

    def probe() -> str | None:
        late = [process for process in cluster.status(details=False).processes if process.name in names and not process.ready]
        failed = [process.name for process in late if cluster.supervisor.states().get(process.name) == "FATAL"]
        if failed:
            raise NotReadyError(
                f"{failed[0]} cannot start; the end of its log stands above, all of it in {cluster.supervisor.log(failed[0])}."
            )
        return "; ".join(f"{process.name}: {process.reason}" for process in late) or None

    try:
        wait_until(probe, cluster.settings.start_timeout, "the cluster", interval=0.5, on_wait=progress)
    except NotReadyError:
        for process in cluster.status(details=False).not_ready:
            if process.name in names:
                _say("\n".join(f"{process.name} | {line}" for line in cluster.supervisor.tail(process.name, 10)))
        raise


def _apply(cluster: Cluster, target: supervisor.Programs) -> None:
    _require_supervisor(cluster)
    plan = supervisor.plan(cluster.supervisor.programs, target)
    for sign, names in (("+", plan.added), ("~", plan.changed), ("-", plan.removed)):
        for name in names:
            _say(f"{sign} {name}" + (f"  {target[name]}" if name in target else ""))
    if not plan:
        _say("lab: nothing to do: what runs is what is wanted")
        return
    cluster.supervisor.apply(target, _progress("stopping"))
    _wait_for(cluster, [*plan.added, *plan.changed])
    _say(f"lab: added {len(plan.added)}, changed {len(plan.changed)}, removed {len(plan.removed)}; all others were left alone")


def _require_supervisor(cluster: Cluster) -> None:
    if not cluster.supervisor.running:
        raise NotRunningError(f"the lab in {cluster.settings.home} does not run in the background; start it with `./lab up -d`.")


def _known(cluster: Cluster, names: list[str]) -> None:
    _require_supervisor(cluster)
    programs = cluster.supervisor.programs
    if unknown := [name for name in names if name not in programs]:
        raise NotRunningError(f"there is no process {unknown[0]!r} in the lab in {cluster.settings.home}; there is: {', '.join(programs)}.")


def _progress(doing: str) -> Callable[[str], None]:
    """Return a function that shows what is being waited for: always on a terminal, else every few seconds."""
    start = shown = time.monotonic()

    def show(reason: str) -> None:
        nonlocal shown
        if time.monotonic() - shown > PATIENCE:
            shown = time.monotonic()
            _say(f"lab: still {doing} after {shown - start:.0f} s: {reason}")

    return show


def _show_logs(cluster: Cluster, names: list[str], tail: int, *, follow: bool) -> None:
    width = max(map(len, names), default=0)

    def show(name: str, lines: Iterable[str]) -> None:
        for line in lines:
            print(f"{name:{width}} | {line}" if len(names) > 1 else line, flush=True)

    for name in names:
        show(name, cluster.supervisor.tail(name, tail))
    if not follow:
        return
    files = {name: cluster.supervisor.log(name).open(errors="replace") for name in names}
    for file in files.values():
        file.seek(0, os.SEEK_END)
    with suppress(KeyboardInterrupt):
        while True:
            for name, file in files.items():
                show(name, (line.rstrip("\n") for line in file.readlines()))
                if os.fstat(file.fileno()).st_ino != cluster.supervisor.log(name).stat().st_ino:  # It was rotated.
                    files[name] = cluster.supervisor.log(name).open(errors="replace")
            time.sleep(0.2)


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


def _say(text: str) -> None:
    # One write: nine processes print beside this one.
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
