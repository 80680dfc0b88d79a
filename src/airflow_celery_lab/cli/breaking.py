"""Commands that break the cluster on purpose."""

from __future__ import annotations

from airflow_celery_lab.cli.app import Name, app, say
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.errors import ModeError


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
