"""Commands that start, change and stop the cluster."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import Names, app, last_words, progress, say
from airflow_celery_lab.cluster import evidence, judgement, preflight
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import airflow_settings, credentials, environment, exposure, procfile, requirements, settings
from airflow_celery_lab.configuration.credentials import ADMIN
from airflow_celery_lab.configuration.procfile import Processes
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.servers import probes

#: More processes of one kind than a machine can bear; a bound for typing errors.
MOST = 99
#: The DAG that the welcome proposes, where the user has it.
EXAMPLE = "parallel_tasks"


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background, under supervisord; return when ready.")] = False,
    scale: Annotated[list[str] | None, typer.Option("--scale", "-c", metavar="NAME=N", help="Run a line of the Procfile N times.")] = None,
) -> None:
    """Run the whole cluster: in the foreground until Ctrl-C, or in the background."""
    counts = _counts(item for part in scale or [] for item in part.split(","))
    with Cluster.open() as cluster:
        target = procfile.instances(cluster.lines(), counts)
        if not cluster.records and (shortage := cluster.shortage(target)):
            say(f"lab: warning: {shortage}")
        for warning in environment.warnings(cluster.settings, os.environ):
            say(f"lab: warning: {warning}")
        for sentence in (*requirements.warnings(cluster.settings.project, os.environ), *airflow_settings.of(cluster.settings).refused):
            say(f"lab: warning: {sentence}")
        if exposed := exposure.read(cluster.lab.state):
            for sentence in judgement.exposed(exposed.address, there=probes.has_address(exposed.address)):
                say(f"lab: warning: {sentence}")
        if detach:
            _up_in_the_background(cluster, counts)
            return
        preflight.check(cluster.settings, procfile.services_of(target), os.environ)
    arguments = ["-c", ",".join(f"{name}={number}" for name, number in counts.items())] if counts else []
    os.execv(sys.executable, [sys.executable, "-m", "airflow_celery_lab", "foreground", *arguments])


@app.command()
def down(
    timeout: Annotated[
        float | None, typer.Option("--timeout", "-t", help="Seconds for running tasks to end (default: LAB_STOP_TIMEOUT).")
    ] = None,
) -> None:
    """Stop the cluster in the background: workers finish their tasks, Postgres and Redis end last."""
    state = settings.load(os.environ).state
    if not state.secrets.exists():
        say(f"lab: the lab in {state.home} is not running")
        return
    # A lab whose disk is full, or read-only by now, can be stopped too; the user is told of the disk afterwards.
    with Cluster.open(writing=False) as cluster:
        killed = cluster.down(timeout, progress("stopping"))
        if killed is None:
            say(f"lab: the lab in {state.home} is not running")
            return
        for name in killed:
            say(f"lab: {name} had to be killed")
        say(f"lab: stopped; its state is kept in {state.home}")
    credentials.make_private_folder(state.home)


@app.command()
def start(names: Names) -> None:
    """Start processes of the running cluster, and wait until they are ready."""
    with Cluster.open() as cluster, last_words(cluster, names):
        cluster.start(names, progress("waiting"))


@app.command()
def stop(names: Names) -> None:
    """Stop processes of the running cluster; a worker finishes its tasks first."""
    with Cluster.open() as cluster:
        cluster.stop(names, progress("stopping"))
        say(f"lab: stopped {', '.join(names)}")


@app.command()
def restart(names: Names) -> None:
    """Stop processes of the running cluster, start them again, and wait until they are ready."""
    with Cluster.open() as cluster, last_words(cluster, names):
        cluster.stop(names, progress("stopping"))
        cluster.start(names, progress("waiting"))


@app.command()
def apply() -> None:
    """Apply an edited Procfile and airflow_settings.yaml to the running cluster; touch only what differs."""
    with Cluster.open() as cluster:
        for sentence in airflow_settings.of(cluster.settings).refused:
            say(f"lab: warning: {sentence}")
        done = cluster.apply_settings()
        for sentence in done.failed:
            say(f"lab: warning: {sentence}")
        if done.written:
            say(f"lab: applied {airflow_settings.path_of(cluster.settings).name}: {', '.join(entry.label for entry in done.written)}")
        for name, count in cluster.kept().items():
            say(f"lab: {name} stays at {count} worker{'' if count == 1 else 's'}, as its autoscaler wants")
        _apply(cluster, cluster.target)


@app.command(name="scale")
def scale_command(
    counts: Annotated[list[str], typer.Argument(metavar="NAME=N...", help="A line of the Procfile, and how many times it runs.")],
) -> None:
    """Run a line of the Procfile N times, until `apply` or `down`."""
    wanted = _counts(counts)
    with Cluster.open() as cluster:
        _apply(cluster, lambda: cluster.scaled(wanted))


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
        cluster.wait_until_ready(timeout, on_wait=progress("waiting"))
        started = time.monotonic() - start
        say(_welcome(cluster, started if announce else None))


def _up_in_the_background(cluster: Cluster, counts: dict[str, int]) -> None:
    cluster.require_countable(counts)
    if cluster.supervisor.running and cluster.differs(counts):
        say(f"lab: runs already, with other processes than the Procfile names: `{typed()} apply` applies the Procfile")
    with last_words(cluster):
        seconds = cluster.up(counts, progress("waiting"))
    say(_welcome(cluster, seconds))


def _apply(cluster: Cluster, wanted: Callable[[], Processes]) -> None:
    """Show what differs between what is `wanted` and what runs, apply it, and wait until it is ready."""
    cluster.require_background()
    with cluster.changing(progress("waiting")):
        target = wanted()
        cluster.require_given(target)
        plan = cluster.plan(target)
        for sign, names in (("+", plan.added), ("~", plan.changed), ("-", plan.removed)):
            for name in names:
                say(f"{sign} {name}" + (f"  {target[name]}" if name in target else ""))
        if not plan:
            say("lab: nothing to do: what runs is what is wanted")
            return
        for name in cluster.outgrown(target):
            say(f"lab: {name} starts again, to run {cluster.demand(cluster.widest(target)).slots} tasks at a time")
        if shortage := cluster.shortage(target):
            say(f"lab: warning: {shortage}")
        cluster.change(target, progress("waiting"))
    with last_words(cluster, [*plan.added, *plan.changed]):
        cluster.wait_for([*plan.added, *plan.changed], progress("waiting"))
    say(f"lab: added {len(plan.added)}, changed {len(plan.changed)}, removed {len(plan.removed)}; all others were left alone")


def _welcome(cluster: Cluster, seconds: float | None) -> str:
    config, me = cluster.settings, typed()
    took = f" after {seconds:.1f} s" if seconds is not None else ""
    background = cluster.supervisor.running
    lines = [
        f"lab: ready{took}: {len(cluster.records)} processes",
        f"lab:   Airflow   {environment.web_url(cluster.lab)}   user {ADMIN}, password: {me} password",
        *([f"lab:   Flower    {config.url('flower')}   the same user and password"] if evidence.runs("flower", cluster.records) else []),
        f"lab:   next      {me} {_first(config, background=background)}      {me} status      {f'{me} down' if background else 'Ctrl-C'} stops all",
    ]
    if background and not config.state.tour.exists():
        lines.append(f"lab:   new here  {me} tour")
    return "\n".join(lines)


def _first(config: Settings, *, background: bool) -> str:
    """Return the command that shows most of a lab that has just started, and that works there."""
    if (config.dags / f"{EXAMPLE}.py").exists():
        return f"run {EXAMPLE}"
    # An experiment brings its DAGs along, and needs a lab in the background.
    return "experiment parallelism" if background else "dags"


def _counts(items: Iterable[str]) -> dict[str, int]:
    return dict(map(_count, items))


def _count(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal() or not 0 <= int(number) <= MOST:
        raise typer.BadParameter(f"{text!r} is not NAME=N with N from 0 to {MOST}", param_hint="NAME=N")
    return name, int(number)
