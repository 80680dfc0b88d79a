"""Commands that show the cluster, and change nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from airflow_celery_lab.cli.app import Json, app, print_json
from airflow_celery_lab.cluster import doctor
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.judgement import Status
from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import FAILED, INTERRUPTED, ModeError, NotReadyError, NotRunningError


@app.command()
def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")] = False,
) -> NoReturn:
    """Show each process, worker and queue, and what is wrong. Exits with 0 when all is ready."""
    from airflow_celery_lab.cli import tables  # Here and below: what draws takes a while to import, and `--help` does not draw.

    with Cluster.open() as cluster:
        now = cluster.status()
        if watch:
            _watch(cluster, now)
        print_json(now.as_json()) if as_json else tables.console.print(tables.status(now))
        running = any(process.state != "stopped" for process in now.processes)
        raise typer.Exit(0 if now.ready else NotReadyError.status if running else NotRunningError.status)


# What a compose user types.
app.command(name="ps", hidden=True)(status)


@app.command()
def metrics() -> None:
    """Print queues, workers, tasks and losses in Prometheus's text format."""
    from airflow_celery_lab.metrics import families, scrape

    with Cluster.open() as cluster:
        cluster.require_main()
        seen = scrape.look(cluster)
        print(families.text(seen), end="")
        for reason in filter(None, (seen.redis, seen.postgres)):
            print(f"lab: {reason}", file=sys.stderr)


@app.command()
def logs(
    name: Annotated[str | None, typer.Argument(help="A process (default: all).")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until Ctrl-C.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="Lines to begin with.")] = 20,
) -> None:
    """Show what processes of the background cluster have printed."""
    with Cluster.open() as cluster:
        if cluster.records and not cluster.supervisor.running:
            raise ModeError(f"the lab runs in the foreground, and prints where `{typed()} up` was typed; `{typed()} up -d` keeps logs.")
        names = cluster.logged() if name is None else [name]
        width = max(map(len, names), default=0) if len(names) > 1 else 0
        for each in names:
            _show(each, width, cluster.logs(each, tail))
        if follow:
            with suppress(KeyboardInterrupt):
                _follow(cluster, names, width, lambda: True)


@app.command()
def password() -> None:
    """Print the password of the user `admin`, for Airflow and Flower."""
    with Cluster.open() as cluster:
        print(cluster.credentials.admin_password)


@app.command(name="doctor")
def doctor_command(as_json: Json = False) -> NoReturn:
    """Say what is wrong with this machine or configuration, and what to do."""
    from airflow_celery_lab.cli import tables

    findings = doctor.examine(os.environ)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            tables.console.print(
                f"{'ok  ' if finding.ok else 'BAD '} {finding.what}: {finding.detail}", style="" if finding.ok else "red", markup=False
            )
    raise typer.Exit(0 if all(finding.ok for finding in findings) else FAILED)


def _watch(cluster: Cluster, now: Status) -> NoReturn:
    from rich.live import Live

    from airflow_celery_lab.cli import tables

    try:
        with Live(tables.status(now), console=tables.console, auto_refresh=False) as live:
            while True:
                time.sleep(1)
                live.update(tables.status(cluster.status()), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _show(name: str, width: int, lines: Iterable[str]) -> None:
    for line in lines:
        print(f"{name:{width}} | {line}" if width else line, flush=True)


def follow(cluster: Cluster) -> None:
    """Show what the processes of the background lab print from now on, until it ends."""
    names = list(cluster.supervisor.processes)
    _follow(cluster, names, max(map(len, names)), lambda: cluster.supervisor.running)


def _follow(cluster: Cluster, names: list[str], width: int, goes_on: Callable[[], bool]) -> None:
    paths = {name: cluster.lab.state.process_log(name) for name in names}
    files = {name: path.open(errors="replace") for name, path in paths.items()}
    for file in files.values():
        file.seek(0, os.SEEK_END)
    while goes_on():
        for name, file in files.items():
            _show(name, width, (line.rstrip("\n") for line in file.readlines()))
            with suppress(FileNotFoundError):  # Between the two steps of a rotation.
                if os.fstat(file.fileno()).st_ino != paths[name].stat().st_ino:
                    files[name] = paths[name].open(errors="replace")
        time.sleep(0.2)
