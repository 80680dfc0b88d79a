"""A lab in the background, as supervisord runs it: tests scale, break and repair it while it runs, and it leaves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from airflow_celery_lab.cluster.handle import Cluster
from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing import leftovers
from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab

#: What must not be in the way of anything: a second executor; a web interface behind somebody's proxy.
DOTENV = """
AIRFLOW__CORE__EXECUTOR=CeleryExecutor,LocalExecutor
AIRFLOW__API__BASE_URL=http://proxy.test/team/airflow
"""
#: As in many offices, but that nobody answers there.
PROXY = dict.fromkeys(("HTTP_PROXY", "https_proxy"), "http://127.0.0.1:9")


@contextmanager
def background_lab(dags: Path, project: Path, variables: Mapping[str, str] | None = None) -> Iterator[ThrowawayLab]:
    """Run a lab in the background, and see at the end that it leaves no process, file, shared memory or port."""
    temporary = Path(mkdtemp(prefix="lab-tmp-"))
    temporary.chmod(0o711)
    own = {"TMPDIR": str(temporary), "LAB_STOP_TIMEOUT": "30", "LAB_LISTENER_TIMEOUT": "10", **(variables or {})}
    try:
        with throwaway_lab(dags, own, project) as lab:
            lab.command("setup")
            before = leftovers.look(temporary, lab.cluster.settings.ports)
            lab.environ |= PROXY
            assert "lab: ready after" in lab.command("up", "-d").stdout
            yield lab
            memory = leftovers.memory_of(lab.look())
            lab.command("down")
            lab.wait_until_gone()
            assert leftovers.look(temporary, lab.cluster.settings.ports) == before
            assert leftovers.left(memory) == set()
    finally:
        shutil.rmtree(temporary)


@contextmanager
def projects_lab(dags: Path) -> Iterator[ThrowawayLab]:
    """Run the lab of a project whose Procfile tests may edit, and which has the checkout's command by a link."""
    with TemporaryDirectory(prefix="lab project ") as name:
        project = Path(name)
        project.chmod(0o755)
        (project / "lab").symlink_to(CHECKOUT / "lab")
        shutil.copy(CHECKOUT / "Procfile", project)
        (project / ".env").write_text(DOTENV)
        with background_lab(dags, project) as lab:
            yield lab


def pids(cluster: Cluster) -> dict[str, int]:
    """Return the pid of each process of the lab's, by its name."""
    return {name: record.main_pid for name, record in cluster.records.items()}


def workers(cluster: Cluster) -> set[str]:
    """Return the names of the workers that answer."""
    return {worker.name for worker in cluster.status(details=False).workers}
