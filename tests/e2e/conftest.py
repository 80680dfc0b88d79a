"""What tests make of the lab `background`, which each of their files or folders has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_celery_lab.experiments import trials
from airflow_celery_lab.testing import ThrowawayLab


@pytest.fixture
def procfile(background: ThrowawayLab) -> Iterator[Path]:
    """The Procfile; whatever a test makes of it, it is put back and applied."""
    path = background.project / "Procfile"
    text = path.read_text()
    yield path
    path.write_text(text)
    background.command("apply")
    background.cluster.wait_until_ready()


@pytest.fixture
def two_workers(background: ThrowawayLab) -> ThrowawayLab:
    """The lab with the workers that faults want, left so: not each of these tests has to start and stop one."""
    background.command("scale", f"worker-default={trials.WORKERS}")
    return background


@pytest.fixture
def one_worker(background: ThrowawayLab) -> ThrowawayLab:
    """The lab as its Procfile has it."""
    background.command("apply")
    return background
