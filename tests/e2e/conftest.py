"""The lab in the background that the tests of a file share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.experiments import trials
from airflow_celery_lab.testing import ThrowawayLab

from .background import DOTENV, background_lab


@pytest.fixture(scope="module")
def background(lab_dags: Path) -> Iterator[ThrowawayLab]:
    """A lab in the background, of a project whose Procfile tests may edit, and which has the checkout's command by a link."""
    with TemporaryDirectory(prefix="lab project ") as name:
        project = Path(name)
        project.chmod(0o755)
        (project / "lab").symlink_to(CHECKOUT / "lab")
        shutil.copy(CHECKOUT / "Procfile", project)
        (project / ".env").write_text(DOTENV)
        with background_lab(lab_dags, project) as lab:
            yield lab


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
