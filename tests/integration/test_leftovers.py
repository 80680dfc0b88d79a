"""Rounds of up and down leave nothing on the machine, in both modes. Whole clusters are looked at in test_end.py.

What a round leaves, three rounds show as well as ten; ten take half a minute longer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_celery_lab.launcher import temporary
from airflow_celery_lab.servers import probes
from airflow_celery_lab.testing import leftovers

from .sandbox import Sandbox, until
from .test_guard import SHELL_FAMILY

ROUNDS = 3
LINES = f"""
postgres: airflow-celery-lab exec postgres
redis: airflow-celery-lab exec redis
family: airflow-celery-lab exec {SHELL_FAMILY}
"""


@pytest.fixture
def servers(sandbox: Sandbox) -> Sandbox:
    """Return a lab of both servers and a program with descendants of every kind, with a temporary folder of its own."""
    (sandbox.project / "Procfile").write_text(LINES)
    folder = sandbox.folder / "tmp"
    folder.mkdir()
    sandbox.environ["TMPDIR"] = str(folder)
    return sandbox


def in_the_foreground(sandbox: Sandbox) -> set[str]:
    up = sandbox.spawn([sys.executable, "-m", "airflow_celery_lab", "up"])
    until(lambda: serves(sandbox), "the servers", interval=0.03)
    memory = leftovers.memory_of(process.pid for process in sandbox.processes())
    assert up.stop() == 143
    return memory


def in_the_background(sandbox: Sandbox) -> set[str]:
    try:
        assert sandbox.run("up", "-d").returncode == 0
        assert serves(sandbox)
        return leftovers.memory_of(process.pid for process in sandbox.processes())
    finally:
        assert sandbox.run("down").returncode == 0


def serves(sandbox: Sandbox) -> bool:
    lab = sandbox.lab
    return probes.postgres(lab) is None and probes.redis(lab) is None and "family" in sandbox.records


@pytest.mark.parametrize("once", [in_the_foreground, in_the_background])
def test_rounds_leave_no_file_memory_socket_port_or_process(servers: Sandbox, once: Callable[[Sandbox], set[str]]) -> None:
    def look() -> set[str]:
        return leftovers.look(Path(servers.environ["TMPDIR"]), servers.settings.ports)

    before = look()
    memory = once(servers)  # Makes the database, and the files that stay.
    kept = names(servers.home)
    for _ in range(ROUNDS - 1):
        memory |= once(servers)

    assert len(memory) >= ROUNDS or sys.platform != "linux"
    assert leftovers.left(memory) == set()
    assert look() == before
    assert names(servers.home) == kept
    assert not servers.processes()


def names(home: Path) -> set[str]:
    """Return what lies in the state folder, but for the servers' own files."""
    return {str(path.relative_to(home)) for path in home.rglob("*") if not {"postgres", "redis"}.intersection(path.parts)}


#: A worker's process as far as its temporary files go: it shares memory, and is killed.
SHARES_MEMORY = """
import multiprocessing.util, os, signal, tempfile
from airflow_celery_lab.inside_airflow import celery_config
celery_config.keep_temporary_files_in_the_state()
print(multiprocessing.util.get_temp_dir(), tempfile.gettempdir(), "ready", flush=True)
signal.pause()
"""


def test_what_a_worker_keeps_in_temporary_files_is_gone_with_its_launcher_and_tasks_have_the_usual_folder(servers: Sandbox) -> None:
    folder = temporary.folder(servers.lab.state, "worker-a")
    folder.mkdir(parents=True)
    worker = servers.spawn([sys.executable, "-c", SHARES_MEMORY], LAB_TEMPORARY=str(folder))
    *_, own, usual, _ready = worker.until("ready").split()

    worker.kill()

    assert Path(own).parent == folder
    assert Path(own).is_dir()
    assert usual == servers.environ["TMPDIR"]
    temporary.remove(folder)
    assert not psutil.pid_exists(worker.pid) or not Path(own).exists()
