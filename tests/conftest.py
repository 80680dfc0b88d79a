"""The suite's use of the package's own fixtures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from celery_lab.settings import PROJECT

pytest_plugins = ["celery_lab.testing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def lab_dags() -> Iterator[Path]:
    """The lab's DAGs and those that only the tests need, in a folder that tests may write to."""
    folder = Path(mkdtemp(prefix="lab-dags-"))
    for source in (PROJECT / "dags", PROJECT / "tests" / "e2e" / "dags"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)
