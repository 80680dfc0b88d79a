"""Conducts experiments one after another in one lab."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments.bench import Bench, OnStep, bench
from airflow_celery_lab.experiments.experiment import Experiment, Finding, Result, verdict


def conduct(
    cluster: Cluster, experiments: Iterable[Experiment], on_begin: Callable[[Experiment], None], on_step: OnStep, on_wait: OnStep
) -> Iterator[Result]:
    """Yield the result of each experiment; the lab is as it was after each, and after an exception too.

    Raises:
        LabError: the lab does not run in the background, or does not work any more.

    """
    for experiment in experiments:
        on_begin(experiment)
        # Workers and DAGs of one are none of the next one's business.
        with bench(cluster, on_step, on_wait) as found:
            result = one(found, experiment)
        yield result


def one(found: Bench, experiment: Experiment) -> Result:
    """Conduct one experiment: measure, and judge what was measured."""
    try:
        found.begin(experiment.name)
        measured = experiment.measure(found)
    except CannotTellError as error:
        return Result(experiment, "could not tell", found.steps, Finding([], {}), {}, str(error))
    finding = experiment.judge(measured)
    open_ones = "; ".join(f"{check.claim}: {check.measured}" for check in finding.checks if check.holds is None)
    return Result(experiment, verdict(finding.checks), found.steps, finding, measured.parts, open_ones)
