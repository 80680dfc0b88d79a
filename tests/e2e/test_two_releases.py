"""A project on two releases of Airflow: `lab test --airflow 3.2 -m release`, where both environments are there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.testing.throwaway import throwaway_lab

#: Deprecated since 3.2, and not in 3.1.
MOVED = """
from airflow.sdk import dag, task
from airflow.stats import Stats

@dag(schedule=None)
def moved():
    @task
    def count():
        Stats.incr("counted")

    count()

moved()
"""
ENDED = """
from airflow.sdk import dag
from airflow.version import version

if not version.startswith("{release}."):
    raise ImportError("it is gone")

@dag(schedule=None)
def ended(): ...

ended()
"""
CRASHES = """
import os

from airflow.sdk import dag
from airflow.version import version

if not version.startswith("{release}."):
    os._exit(3)
"""
TESTS = """
from airflow.version import version

def test_a_task_runs_on_a_worker(airflow_lab):
    assert airflow_lab.run("moved").succeeded

def test_the_release_is_the_old_one():
    assert version.startswith("{release}.")
"""


@pytest.mark.release
def test_a_projects_dags_tests_and_warnings_are_shown_side_by_side(tmp_path: Path) -> None:
    old = os.environ.get("LAB_AIRFLOW", "")
    (new,) = re.findall(r"^newest=(.*)$", (CHECKOUT / "lab").read_text(encoding="utf-8"), flags=re.MULTILINE)
    if old in {"", new}:
        pytest.skip(f"this is Airflow {new} alone; ./lab test --airflow RELEASE -m release compares another one with it")
    for name, text in {"dags/moved.py": MOVED, "dags/ended.py": ENDED, "dags/crashes.py": CRASHES, "tests/test_dags.py": TESTS}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("{release}", old))

    with throwaway_lab(project=tmp_path) as lab:
        done = lab.command("compare", old, new, "--json", "-q", check=False, timeout=400)

    print(done.stderr)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [found[side]["airflow"].rpartition(".")[0] for side in ("before", "after")] == [old, new]
    assert {test["test"].partition("::")[2]: [test[side]["outcome"] for side in ("before", "after")] for test in found["tests"]} == {
        "test_a_task_runs_on_a_worker": ["passed", "passed"],
        "test_the_release_is_the_old_one": ["passed", "failed"],
    }
    assert found["broken"] == ["dags/crashes.py", "dags/ended.py", "tests/test_dags.py::test_the_release_is_the_old_one"]
    (crashes, ended, moved) = found["dag_files"]
    assert crashes["after"]["error"] == "it has ended its process with status 3"
    assert ended["after"]["error"] == "dags/ended.py, line 6: ImportError: it is gone"
    assert [moved[side]["dags"] for side in ("before", "after")] == [["moved"], ["moved"]]
    # One, or two: 3.2 says it in other words than 3.3.
    warnings = [one for one in found["warnings"] if "airflow.stats" in one["message"]]
    assert {(one["file"], one["line"], one["category"]) for one in warnings} == {("dags/moved.py", 3, "DeprecatedImportWarning")}
    assert [any(one[side] for one in warnings) for side in ("before", "after")] == [old != "3.1", True]
