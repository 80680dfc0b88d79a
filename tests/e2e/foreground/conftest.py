from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab


@pytest.fixture(scope="package")
def lab(lab_dags: Path) -> Iterator[ThrowawayLab]:
    with throwaway_lab(lab_dags) as running:
        running.up()
        yield running
        running.stop()


@pytest.fixture
def lab_cluster(lab: ThrowawayLab) -> Cluster:
    """The handle on the running cluster."""
    return lab.cluster
