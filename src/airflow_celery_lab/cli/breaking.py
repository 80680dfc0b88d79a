"""Commands that break the cluster on purpose."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from airflow_celery_lab.cli.app import Json, Name, app, print_json, say
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import FAILED, ModeError


@app.command()
def kill(name: Name) -> None:
    """Kill a process with all that descends from it, at one moment, as a lost machine."""
    with Cluster.open() as cluster:
        if cluster.record(name).supervisor == "honcho":
            raise ModeError(
                f"the lab runs in the foreground, where honcho ends all of it with {name}; run `{typed()} up -d` to break it.", process=name
            )
        say(f"lab: killed {name}: {cluster.kill(name)} processes")


@app.command()
def pause(name: Name) -> None:
    """Stop a process in its tracks, as a hung machine."""
    with Cluster.open() as cluster:
        say(f"lab: paused {name}: {cluster.pause(name)} processes; `{typed()} resume {name}` lets it go on")


@app.command()
def resume(name: Name) -> None:
    """Let a paused process go on."""
    with Cluster.open() as cluster:
        say(f"lab: resumed {name}: {cluster.resume(name)} processes")


@app.command()
def experiment(
    names: Annotated[list[str] | None, typer.Argument(metavar="FAULT...", help="Faults (default: all).")] = None,
    times: Annotated[int, typer.Option("--trials", "-n", min=1, help="How often each.")] = 1,
    quick: Annotated[bool, typer.Option(help="Without what takes minutes: long tasks, long faults.")] = False,
    as_json: Json = False,
) -> NoReturn:
    """Break the background cluster under load, and show what each fault cost. Exits with 1 if a task was lost."""
    # What only this command needs, and what draws: `--help` need not wait for it.
    from airflow_celery_lab.cli import tables
    from airflow_celery_lab.experiments import trials

    selected = trials.chosen(names or [], quick=quick)
    with Cluster.open() as cluster:
        cluster.require_background()
        done = []
        for trial in trials.run(cluster, selected, times):
            done.append(trial)
            print(f"lab: {tables.trial(trial)}", file=sys.stderr, flush=True)
        rows = trials.summary(done)
        print_json([vars(row) for row in rows]) if as_json else tables.console.print(tables.rows(rows))
        raise typer.Exit(0 if all(row.recovered == row.trials and not row.lost for row in rows) else FAILED)
