"""Commands by which this machine works for another one's lab."""

from __future__ import annotations

import os
import socket
import sys
from getpass import getpass
from typing import Annotated

import typer

from airflow_celery_lab.cli.app import app, progress, say
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import membership, names, procfile, services, settings
from airflow_celery_lab.configuration.lab import Lab
from airflow_celery_lab.errors import AlreadyRunningError, JoinError

#: In place of a token, as other programs have it.
STANDARD_INPUT = "-"


@app.command()
def join(
    token: Annotated[str, typer.Argument(help="What `expose` prints on the main machine; `-` reads it from standard input.")],
    name: Annotated[str, typer.Option("--name", help="This machine's name in that lab (default: its hostname).")] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="In the background; return when the workers are ready.")] = False,
    queues: Annotated[str, typer.Option("--queues", "-q", help="Run one worker for these queues, and not the Procfile's workers.")] = "",
    concurrency: Annotated[int, typer.Option("--concurrency", min=0, help="Its pool slots.")] = 0,
) -> None:
    """Run this folder's workers for a lab on another machine, until Ctrl-C, or in the background."""
    machine = name or socket.gethostname().partition(".")[0]
    if not names.MACHINE.fullmatch(machine):
        raise typer.BadParameter(f"{machine!r} is not up to 63 letters, digits and hyphens", param_hint="--name")
    if concurrency and not queues:
        raise typer.BadParameter("is for the worker of --queues; the Procfile's workers have their own", param_hint="--concurrency")
    if queues:
        words = [*services.WORKER_COMMAND, "--queues", queues]
        services.describe(words)
    with Cluster.open() as cluster:
        if cluster.records:
            raise AlreadyRunningError(
                f"the lab in {cluster.settings.home} runs; stop it, or set LAB_HOME to another folder for the workers of the other lab.",
                path=cluster.settings.home,
            )
        _join(cluster.lab, _read(token), machine, queues, concurrency)
    arguments = ["up", *(["-d"] if detach else [])]
    # Another program, in whose arguments the token does not stand: it stays for as long as the workers do.
    os.execv(sys.executable, [sys.executable, "-m", "airflow_celery_lab", *arguments])


@app.command()
def leave(
    timeout: Annotated[
        float | None, typer.Option("--timeout", "-t", help="Seconds for running tasks to end (default: LAB_STOP_TIMEOUT).")
    ] = None,
) -> None:
    """Stop the workers, which finish their tasks first, and forget the lab that this folder has joined."""
    state = settings.load(os.environ).state
    member = membership.require(state)
    with Cluster.open(writing=False) as cluster:
        for late in cluster.down(timeout, progress("stopping")) or ():
            say(f"lab: {late} had to be killed")
    membership.forget(state)
    say(f"lab: {member.machine} has left the lab {member.lab} on {member.address}")


def _read(token: str) -> str:
    if token != STANDARD_INPUT:
        return token
    return getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()


def _join(lab: Lab, text: str, machine: str, queues: str, concurrency: int) -> None:
    from airflow_celery_lab.configuration import likeness
    from airflow_celery_lab.remote import joining, release
    from airflow_celery_lab.remote.token import parse

    token = parse(text)
    versions = release.versions()
    try:
        dags = likeness.dags(lab.settings.dags)
    except OSError as error:
        raise JoinError(f"cannot read {error.filename}: {error.strerror}; the DAG folder is compared with the main machine's.") from error
    answer = joining.ask(token, machine, versions, dags)
    for obstacle in joining.obstacles(answer, versions):
        raise JoinError(obstacle)
    for warning in joining.warnings(answer, dags):
        say(f"lab: warning: {warning}")
    member = joining.membership(token, machine, answer, queues, concurrency)
    procfile.of_member(procfile.read(lab.settings.project, None, lab.settings.procfile), member, lab.settings.project)
    membership.write(lab.state, member, answer.data["ca"])
    say(f"lab: {machine} has joined the lab {member.lab} on {member.address}; `{typed()} leave` leaves it")
