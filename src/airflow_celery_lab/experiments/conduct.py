"""Conducts an experiment in a lab."""

from __future__ import annotations

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.errors import CannotTellError
from airflow_celery_lab.experiments.bench import Bench, OnStep, bench
from airflow_celery_lab.experiments.experiment import Experiment, Finding, Result, verdict


def conduct(cluster: Cluster, experiment: Experiment, on_step: OnStep, on_wait: OnStep) -> Result:
    """Return the result of an experiment; the lab is as it was after it, and after an exception too.

    Raises:
        LabError: the lab does not run in the background, or does not work any more.

    """
    with bench(cluster, on_step, on_wait) as found:
        return _measured(found, experiment)


def _measured(found: Bench, experiment: Experiment) -> Result:
    try:
        found.require_quiet(experiment.name)
        measured = experiment.measure(found)
    except CannotTellError as error:
        return Result(experiment, "could not tell", found.steps, Finding([], {}), {}, str(error))
    finding = experiment.judge(measured)
    undecided = "; ".join(f"{check.claim}: {check.measured}" for check in finding.checks if check.holds is None)
    return Result(experiment, verdict(finding.checks), found.steps, finding, measured.parts, undecided)
