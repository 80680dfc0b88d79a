"""All experiments, in the order that teaches, and the choice among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import UnknownExperimentError
from airflow_celery_lab.experiments import (
    autoscale,
    deferred,
    graceful_stop,
    network,
    outages,
    parallelism,
    pools,
    prefetch,
    priorities,
    routing,
    scaling,
    trials,
    unheard_queue,
    visibility_timeout,
    worker_loss,
    workers_on_demand,
)
from airflow_celery_lab.experiments.experiment import Experiment
from airflow_celery_lab.experiments.trials import Fault

EXPERIMENTS: tuple[Experiment, ...] = (
    # How work is shared out.
    parallelism.EXPERIMENT,
    scaling.EXPERIMENT,
    autoscale.EXPERIMENT,
    workers_on_demand.EXPERIMENT,
    routing.EXPERIMENT,
    unheard_queue.EXPERIMENT,
    # What waits, and where.
    pools.EXPERIMENT,
    priorities.EXPERIMENT,
    prefetch.EXPERIMENT,
    deferred.EXPERIMENT,
    # What fails, and what comes back.
    graceful_stop.EXPERIMENT,
    worker_loss.EXPERIMENT,
    visibility_timeout.EXPERIMENT,
    *outages.EXPERIMENTS,
    # What the network does.
    *network.EXPERIMENTS,
)
#: Words for all of a kind.
ALL, FAULTS = "all", "faults"


class Choice(NamedTuple):
    """What is run."""

    experiments: Sequence[Experiment]
    faults: Sequence[Fault]


def choose(names: Iterable[str]) -> Choice:
    """Return the experiments and the faults of these names, each once.

    Raises:
        UnknownExperimentError: there is none of that name.

    """
    experiments = {experiment.name: experiment for experiment in EXPERIMENTS}
    faults = {fault.name: fault for fault in trials.FAULTS}
    kinds = {ALL: list(experiments), FAULTS: list(faults)}
    wanted = list(dict.fromkeys(name for word in names for name in kinds.get(word, [word])))
    for name in wanted:
        if name not in experiments and name not in faults:
            advice = suggest(name, [*experiments, *faults, *kinds], f"`{typed()} experiment` lists them.")
            raise UnknownExperimentError(f"there is no experiment {name!r}; {advice}")
    return Choice([experiments[name] for name in wanted if name in experiments], [faults[name] for name in wanted if name in faults])
