"""Commands for those who write DAGs: what Airflow makes of their files, and what their tasks have said."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, NoReturn

import typer

from airflow_celery_lab.cli.app import Json, app, print_json, say
from airflow_celery_lab.cluster import task_logs
from airflow_celery_lab.cluster.dag_files import DagFile
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.cluster.task_logs import Line
from airflow_celery_lab.errors import FAILED, INTERRUPTED, LabError

#: Where Airflow's web interface folds a log.
FOLDS = ("::group::", "::endgroup::")


@app.command()
def dags(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, and say when what was saved is live.")] = False,
) -> NoReturn:
    """Show each DAG file, when Airflow has parsed it, and what is wrong with it. Exits with 1 if one cannot be read."""
    from airflow_celery_lab.cli import tables  # What draws takes a while to import, and `--help` does not draw.

    if watch and as_json:
        raise typer.BadParameter("it cannot be watched as JSON; leave out one of the two", param_hint="--watch")
    with Cluster.open() as cluster:
        cluster.require_running()
        found = cluster.dag_files()
        print_json([file.as_json() for file in found]) if as_json else tables.console.print(tables.dag_files(found))
        if watch:
            _watch(cluster, found)
        raise typer.Exit(FAILED if any(file.error for file in found) else 0)


@app.command(name="task-log")
def task_log(
    dag: Annotated[str, typer.Argument(metavar="DAG", help="Id of the DAG.")],
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Id of the task, as `run` names it (default: all).")] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Id of the run (default: the newest one).")] = None,
    try_number: Annotated[
        int | None, typer.Option("--try", metavar="N", min=1, help="Number of the try (default: the newest one).")
    ] = None,
    map_index: Annotated[int | None, typer.Option("--map-index", metavar="N", min=0, help="Index of a mapped task.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Show the log of a task, or of all tasks of a run. What processes have printed, `logs` shows."""
    if follow and as_json:
        raise typer.BadParameter("what is followed cannot be one JSON document; leave out one of the two", param_hint="--follow")
    with Cluster.open() as cluster:
        cluster.require_running()
        which = (cluster.api, cluster.settings.dags, dag, task, run, try_number, map_index)
        if as_json:
            print_json([{"task": line.task, "try": line.try_number, "item": line.item} for line in task_logs.read(*which)])
            return
        try:
            _show(task_logs.follow(*which) if follow else task_logs.read(*which), named=task is None)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _show(lines: Iterable[Line], *, named: bool) -> None:
    for line in lines:
        for text in _texts(line.item):
            say(f"{line.task} | {text}" if named else text)


def _texts(item: Any) -> list[str]:
    """Return an event as lines, an exception below it."""
    if not isinstance(item, dict):
        return str(item).splitlines()
    if str(item.get("event", "")).startswith(FOLDS):
        return []
    begin = " ".join(filter(None, (_clock(item.get("timestamp")), str(item.get("level") or "").upper().ljust(7))))
    first, *rest = str(item.get("event", "")).splitlines() or [""]
    texts = [f"{begin} {first}", *rest]
    for exception in item.get("error_detail") or []:
        texts += [f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}' for frame in exception.get("frames") or []]
        texts.append(f"{exception['exc_type']}: {exception['exc_value']}")
    return texts


def _clock(timestamp: str | None) -> str:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S.%f")[:-3] if timestamp else ""


def _watch(cluster: Cluster, found: list[DagFile]) -> NoReturn:
    """Print a line for each file that was saved, became live, or cannot be read."""
    before = {file.name: file for file in found}
    try:
        while True:
            time.sleep(0.5)
            try:
                now = {file.name: file for file in cluster.dag_files()}
            except LabError:  # The api-server may be starting again.
                cluster.require_running()
                continue
            for name in sorted(before.keys() | now.keys()):
                if news := _news(before.get(name), now.get(name)):
                    say(f"{datetime.now().astimezone():%H:%M:%S} {name}: {news}")
            before = now
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _news(before: DagFile | None, now: DagFile | None) -> str | None:
    if now is None or (before is not None and (before.state, before.saved, before.error) == (now.state, now.saved, now.error)):
        return "removed" if now is None else None
    if now.state == "live" and now.parsed and now.saved:
        ids = ", ".join(dag.dag_id for dag in now.dags)
        return f"{ids} live, {now.parsed - now.saved:.1f} s after it was saved"
    return {"changed": "saved", "error": f"cannot be read: {now.error}", "unread": "saved"}.get(now.state, now.state)
