from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .sandbox import Running, Sandbox

#: Writes down in which process its tasks run: a debugger stops in its own one only.
DAG = """
import os
from airflow.sdk import dag, task

@dag(schedule=None)
def debugged():
    @task
    def number() -> int:
        return 7

    @task
    def write(number: int) -> None:
        with open({target!r}, "w") as file:
            print('{{"pid": %d, "number": %d}}' % (os.getpid(), number), file=file)

    write(number())

debugged()
"""


@pytest.mark.e2e  # Takes as long: Airflow makes a database.
def test_a_dag_to_be_debugged_runs_in_one_process_and_needs_no_cluster(sandbox: Sandbox) -> None:
    target = sandbox.folder / "seen.json"
    file = sandbox.folder / "debugged.py"
    file.write_text(DAG.format(target=str(target)))

    run = debug(sandbox, file)

    assert run.end() == 0
    assert "lab: debugged: success" in run.output
    assert json.loads(target.read_text()) == {"pid": run.pid, "number": 7}

    target.unlink()
    folder = sandbox.project / "dags"
    (folder / "debugged.py").write_text(file.read_text())
    tested = sandbox.spawn([sys.executable, "-m", "airflow_celery_lab", "airflow", "tasks", "test", "debugged", "number"])
    assert tested.end() == 0, tested.output
    assert "lab: this runs in one process, on a small database of its own" in tested.output
    assert "Traceback" not in tested.output

    file.write_text("# airflow dag\n")
    without = debug(sandbox, file)

    assert without.end() == 24
    assert f"lab: there is no DAG in {file}; name the file of one." in without.output


def debug(sandbox: Sandbox, file: Path) -> Running:
    return sandbox.spawn([sys.executable, "-m", "airflow_celery_lab", "debug", str(file)])
