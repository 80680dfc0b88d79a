"""The command that draws what a run did to the cluster's slots."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import Json, app, print_json
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import ProjectError
from airflow_celery_lab.timeline.spans import Timeline

#: Variables of which one is set where a browser can open a window.
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")

Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]


@app.command(name="timeline")
def timeline_command(
    dag: Annotated[str | None, typer.Argument(metavar="DAG", help="Id of the DAG (default: of the newest run).")] = None,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Id of the run (default: the newest one).")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the page here (default: in the state folder).")
    ] = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a trace for Perfetto, and no page.")] = None,
    show: Open = False,
    as_json: Json = False,
) -> None:
    """Draw which worker's slot ran which task of a run and when, as a page for the browser; print its path."""
    from airflow_celery_lab.timeline import recording

    with Cluster.open() as cluster:
        found = recording.timeline(cluster, dag, run)
        if trace is not None:
            from airflow_celery_lab.timeline.trace import chrome

            _write(trace, json.dumps(chrome(found), separators=(",", ":")))
            print(trace, file=sys.stderr if as_json else sys.stdout)
        if as_json:
            print_json(found.as_json())
        if output is not None or show or not (as_json or trace):
            print(draw(cluster, found, output, show=show), file=sys.stderr if as_json else sys.stdout)


def draw(cluster: Cluster, timeline: Timeline, path: Path | None = None, *, show: bool = False) -> Path:
    """Write the page of a timeline, by default into the state folder, open it where a browser can be, and return its path.

    Raises:
        ProjectError: it cannot be written there.

    """
    from airflow_celery_lab.timeline.page import page

    path = path or _place(cluster.lab.state, timeline)
    _write(path, page(timeline))
    if show:
        _open(path)
    return path


def _place(state: State, timeline: Timeline) -> Path:
    make_private_folder(state.timelines)
    # A run's id may hold any letter; those that a file system, an address or a shell knows are left out.
    return state.timelines / (re.sub(r"[^\w.+-]", "_", f"{timeline.dag_id}.{timeline.run_id}") + ".html")


def _write(path: Path, text: str) -> None:
    try:
        files.write(path, text, mode=0o644)
    except OSError as error:
        raise ProjectError(f"cannot write {path}: {error.strerror}; name another file, or free space.", path=path) from error


def _open(path: Path) -> None:
    import webbrowser

    # Without a display Python would take a browser for terminals, in which no script runs.
    display = sys.platform == "darwin" or any(os.environ.get(name) for name in DISPLAYS)
    if not display or not webbrowser.open(path.resolve().as_uri()):
        print("lab: there is no browser to open here; open the page in your own", file=sys.stderr)
