"""Commands for the project's files, the environment and the state."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from airflow_celery_lab.cli.app import app, say
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files, procfile, project, roots, settings
from airflow_celery_lab.errors import AlreadyRunningError, ProjectError, StateFolderError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.supervision import supervisord_configuration


@app.command()
def init() -> None:
    """Write a Procfile, .env.example and .gitignore lines into the current folder; what is there stays as it is."""
    folder = roots.find_project(os.environ) if os.environ.get(roots.VARIABLE) else Path.cwd()
    for name, written in project.write(folder).items():
        say(f"lab: {'wrote' if written else 'kept'} {name}")
    say(f"lab: next      {typed()} up")


@app.command()
def export(
    what: Annotated[Literal["supervisord", "helm"], typer.Argument(help="What to write.", show_default=True)] = "supervisord",
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Of helm: where to (default: print it).")] = None,
) -> None:
    """Write supervisord.conf from the Procfile, as `honcho export` does, for plain supervisord; or `helm`: values for Airflow's Helm chart."""
    if what == "helm":
        text = _helm_values()
        if file is None:
            print(text, end="")
        else:
            _write(file, text)
        return
    if file is not None:
        raise typer.BadParameter(f"supervisord.conf has its place in the project; leave {file} out", param_hint="FILE")
    folder = roots.find_project(os.environ)
    path = folder / supervisord_configuration.NAME
    text = supervisord_configuration.for_project(procfile.instances(procfile.read(folder, named=settings.load(os.environ).procfile)))
    if path.exists() and not supervisord_configuration.is_ours(path.read_text(encoding="utf-8", errors="replace")):
        raise ProjectError(f"{path} was not written by the lab; move it away, and run `{typed()} export` again.", path=path)
    _write(path, text)


def _write(path: Path, text: str) -> None:
    try:
        files.write(path, text, mode=0o644)
    except OSError as error:
        raise ProjectError(
            f"cannot write {path}: {error.strerror}; fix its permissions, name another file, or free space.", path=path
        ) from error
    say(f"lab: wrote {path}")


def _helm_values() -> str:
    from airflow_celery_lab.helm import of_project, values  # Here: what only this command needs.

    return values.text(of_project.read(settings.load(os.environ), os.environ))


@app.command()
def setup() -> None:
    """Make the Python environment, print its folder, and start nothing."""
    print(sys.prefix)  # For `--help`, and where the package is installed; the script `lab` does it before it comes here.


@app.command()
def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete the state folder: the database, the queue, logs, histories and secrets."""
    state = settings.load(os.environ).state
    if not state.home.exists():
        print(f"lab: there is nothing in {state.home}")
        return
    if registry.running(state):
        raise AlreadyRunningError(f"the lab in {state.home} is running; stop it first.", path=state.home)
    made_by_setup = {state.process_logs.name}
    if not state.secrets.exists() and {path.name for path in state.home.iterdir()} - made_by_setup:
        raise StateFolderError(f"{state.home} does not look like the state of a lab; delete it yourself if you mean it.", path=state.home)
    if not yes:
        try:
            typer.confirm(f"Delete {state.home} with the database, all logs and secrets?", abort=True)
        except typer.Abort:
            if not sys.stdin.isatty():
                say(f"\nlab: deleted nothing; `{typed()} clean --yes` does not ask")
            raise
    try:
        shutil.rmtree(state.home)
    except OSError as error:
        raise StateFolderError(
            f"cannot delete {error.filename or state.home}: {error.strerror}; fix that, and run `{typed()} clean` again.", path=state.home
        ) from error
    print(f"lab: deleted {state.home}")
