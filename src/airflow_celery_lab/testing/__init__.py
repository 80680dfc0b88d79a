"""Pytest fixtures that give a running cluster, for the lab's own tests and for tests of your DAGs.

In your `conftest.py`:

    pytest_plugins = ["airflow_celery_lab.testing"]

    @pytest.fixture(scope="session")
    def lab_dags() -> Path:
        return Path("my/dags")

and in a test:

    def test_my_dag(lab_cluster: Cluster) -> None:
        assert lab_cluster.run("my_dag").succeeded

Each cluster has a state folder and ports of its own, so it never meets one that you are using.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration import settings
from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab

__all__ = ["ThrowawayLab", "lab", "lab_cluster", "lab_dags", "throwaway_lab"]


@pytest.fixture(scope="session")
def lab_dags() -> Path:
    """Return the DAG folder of `lab_cluster`; define a fixture of this name to use your own."""
    return settings.load(os.environ).dags


@pytest.fixture(scope="session")
def lab(lab_dags: Path) -> Iterator[ThrowawayLab]:
    """Run one lab for the whole test session."""
    with throwaway_lab(lab_dags) as running:
        running.up()
        yield running
        running.stop()


@pytest.fixture
def lab_cluster(lab: ThrowawayLab) -> Cluster:
    """Return the handle on the running cluster."""
    return lab.cluster
