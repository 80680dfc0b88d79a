from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_celery_lab.testing import ThrowawayLab
from airflow_celery_lab.testing.background import projects_lab


@pytest.fixture(scope="package")
def background(lab_dags: Path) -> Iterator[ThrowawayLab]:
    with projects_lab(lab_dags) as lab:
        yield lab
