"""The labs that tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import pytest

from airflow_celery_lab import command
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab

if TYPE_CHECKING:
    from airflow_celery_lab.cluster.handle import Cluster
    from airflow_celery_lab.testing.browser import Browser

#: Folders of tests, and marks.
LEVELS = ("unit", "integration", "e2e")

# Messages name the command that was typed; here that is nobody's, whatever started the tests.
os.environ.pop(command.VARIABLE, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(next(level for level in LEVELS if level in item.path.parts))


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A browser without a window; CI has to have one."""
    from airflow_celery_lab.testing import browser as browsers  # Not before pytest has prepared that package.

    if browsers.program() is None and "CI" not in os.environ:
        pytest.skip("there is no Chromium on this machine")
    with browsers.browser() as page:
        yield page


@pytest.fixture(scope="session")
def lab_dags() -> Iterator[Path]:
    """The lab's DAGs and those that only the tests need, in a folder that tests may write to."""
    folder = Path(mkdtemp(prefix="lab-dags-"))
    for source in (CHECKOUT / "dags", CHECKOUT / "tests" / "e2e" / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def lab(lab_dags: Path) -> Iterator[ThrowawayLab]:
    """One lab for the whole test session."""
    with throwaway_lab(lab_dags) as running:
        running.up()
        yield running
        running.stop()


@pytest.fixture
def lab_cluster(lab: ThrowawayLab) -> Cluster:
    """The handle on the running cluster."""
    return lab.cluster
