"""The command that runs experiments."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from airflow_celery_lab.cli.app import Json, app, ended_by_signals, print_json, progress
from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.errors import FAILED, CannotTellError

if TYPE_CHECKING:
    from airflow_celery_lab.experiments.catalogue import Choice
    from airflow_celery_lab.experiments.experiment import Experiment

#: Cells of a line of prose in a file or a pipe.
WIDTH = 100


@app.command()
def experiment(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="Experiments or faults; `all` experiments, all `faults` (default: list them)."),
    ] = None,
    times: Annotated[int, typer.Option("--trials", "-n", min=1, help="How often each fault.")] = 1,
    quick: Annotated[
        bool, typer.Option(help="Faults without what takes minutes, long tasks and long faults, under half of the load.")
    ] = False,
    as_json: Json = False,
) -> NoReturn:
    """Run experiments, each with a prediction and a verdict, or measure what faults cost under load.

    Uses the background cluster, or starts one and stops it afterwards. Leaves all as it was. Exits with 1 if something is not as
    predicted or a task was lost, and with 28 if an experiment could not tell.
    """
    # What only this command needs, and what draws: `--help` need not wait for it.
    from airflow_celery_lab.cli import tables
    from airflow_celery_lab.experiments import catalogue, trials

    if not names:
        listed = {"experiments": [_described(one) for one in catalogue.EXPERIMENTS], "faults": [fault.name for fault in trials.FAULTS]}
        print_json(listed) if as_json else tables.console.print(tables.experiments(catalogue.EXPERIMENTS, trials.FAULTS))
        raise typer.Exit
    choice = catalogue.choose(names)
    if choice.experiments and (quick or times > 1):
        raise typer.BadParameter(f"--trials and --quick are for faults; {choice.experiments[0].name} is an experiment")
    with ended_by_signals(), Cluster.open() as cluster, _running(cluster):
        results = _experiments(cluster, choice, quiet=as_json)
        rows = _faults(cluster, choice, times, quick=quick)
    if as_json:
        print_json([*(result for result, _ in results), *(vars(row) for row in rows)])
    elif rows:
        tables.console.print(tables.rows(rows))
    verdicts = {verdict for _, verdict in results}
    if "not as predicted" in verdicts or any(row.recovered != row.trials or row.lost for row in rows):
        raise typer.Exit(FAILED)
    if undecided := [result["name"] for result, verdict in results if verdict == "could not tell"]:
        raise CannotTellError(f"{', '.join(undecided)} could not tell whether the prediction holds; the reason stands above.")
    raise typer.Exit


@contextmanager
def _running(cluster: Cluster) -> Iterator[None]:
    """Start the lab where it does not run, and stop it again."""
    if cluster.records:
        cluster.require_background()
        yield
        return
    _tell("lab: starts the lab, which does not run, and stops it afterwards")
    try:
        seconds = cluster.up(on_wait=progress("waiting", _tell))
        _tell(f"lab: ready after {seconds:.1f} s")
        yield
    finally:
        _tell("lab: stops the lab")
        cluster.down(on_wait=progress("stopping", _tell))


def _experiments(cluster: Cluster, choice: Choice, *, quiet: bool) -> list[tuple[dict[str, Any], str]]:
    """Run the experiments, and show each as it goes; return each result as JSON, with its verdict."""
    from airflow_celery_lab.cli import tables
    from airflow_celery_lab.experiments import report
    from airflow_celery_lab.experiments.conduct import conduct

    found: list[tuple[dict[str, Any], str]] = []
    for one in choice.experiments:
        _tell(_announced(one))
        with _live() as (on_step, on_wait):
            result = conduct(cluster, one, on_step, on_wait)
        folder = report.write(cluster.lab.state, result)
        found.append(({**result.as_json(), "folder": str(folder)}, result.verdict))
        if not quiet:
            tables.console.print(tables.result(result))
            print(f"{folder / 'index.html'}\n", flush=True)
    return found


def _faults(cluster: Cluster, choice: Choice, times: int, *, quick: bool) -> list[Any]:
    from airflow_celery_lab.cli import tables
    from airflow_celery_lab.experiments import trials
    from airflow_celery_lab.experiments.published import Published, alone

    selected = trials.shortened(choice.faults) if quick else choice.faults
    done = []
    if selected:
        with alone(cluster.lab.state), Published(cluster) as dags:
            for trial in trials.run(cluster, dags, selected, times):
                done.append(trial)
                _tell(f"lab: {tables.trial(trial)}")
    return trials.summary(done)


def _announced(one: Experiment) -> str:
    """Return what an experiment asks and expects, to be read before it starts."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stderr.isatty() else WIDTH
    lines = (f"{one.name}: {one.question} (about {one.seconds} s)", f"Prediction: {one.prediction}")
    return "\n".join(textwrap.fill(line, max(width - 1, 20), subsequent_indent="  ") for line in lines)


@contextmanager
def _live() -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """Return what tells a step, a line each, and what tells what is waited for: on a terminal in place, else every few seconds."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda step: _tell(f"  {step}"), progress("waiting", _tell)
        return
    with console.status("") as status:
        yield lambda step: console.print(f"  {escape(step)}"), lambda reason: status.update(escape(reason))


def _described(one: Experiment) -> dict[str, Any]:
    return {"name": one.name, "question": one.question, "prediction": one.prediction, "seconds": one.seconds}


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
