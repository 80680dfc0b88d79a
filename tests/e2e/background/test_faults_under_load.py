"""No task is lost when something breaks while many run."""

from __future__ import annotations

import json

import psutil
import pytest

from airflow_celery_lab.cluster import trees
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.experiments import trials
from airflow_celery_lab.testing import ThrowawayLab

#: Those that are like another one are tried by `.ci/run`, which names them.
APART = (CHECKOUT / ".ci/run").read_text().split()
FAULTS = [fault.name for fault in trials.FAULTS if not fault.takes_minutes and fault.name not in APART]


@pytest.mark.parametrize("fault", FAULTS)
def test_no_task_is_lost_and_nothing_stays_broken_under_load_by(fault: str, two_workers: ThrowawayLab) -> None:
    before = two_workers.look()

    (row,) = json.loads(two_workers.command("experiment", fault, "--quick", "--json", timeout=400).stdout)

    assert (row["fault"], row["trials"], row["recovered"], row["tasks"], row["lost"]) == (fault, 1, 1, 30, 0)
    if fault == "power-loss":
        assert not before.intersection(process.pid for process in psutil.process_iter() if trees.lives(process))
