"""What the package is to those who import it."""

from __future__ import annotations

import re
import subprocess
import sys

import airflow_celery_lab
from airflow_celery_lab import testing
from airflow_celery_lab.configuration import roots


def test_the_public_names_are_these_and_each_is_there() -> None:
    assert airflow_celery_lab.__all__ == [
        "Cluster",
        "LabError",
        "Plan",
        "ProcessStatus",
        "Queue",
        "Run",
        "Status",
        "Task",
        "Worker",
        "__version__",
        "errors",
    ]
    assert all(getattr(airflow_celery_lab, name) for name in airflow_celery_lab.__all__)


def test_the_names_for_tests_are_these_and_each_is_there() -> None:
    assert testing.__all__ == ["AirflowLab", "LabRun", "LabTask", "Overlap", "ThrowawayLab", "throwaway_lab"]
    assert all(getattr(testing, name) for name in testing.__all__)


def test_a_handle_has_the_verbs_of_the_command_line() -> None:
    verbs = (
        "open",
        "up",
        "wait_until_ready",
        "status",
        "run",
        "scale",
        "apply",
        "start",
        "stop",
        "kill",
        "pause",
        "resume",
        "logs",
        "down",
    )

    assert [verb for verb in verbs if not callable(getattr(airflow_celery_lab.Cluster, verb, None))] == []


def test_importing_the_package_imports_nothing_large() -> None:
    code = "import sys, airflow_celery_lab; print(*sorted(name for name in sys.modules if name.startswith('airflow_celery_lab')))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["airflow_celery_lab"]


def test_what_draws_is_imported_by_the_command_that_draws_alone() -> None:
    code = "import sys, airflow_celery_lab.cli.main; print(*(name for name in ('plotly', 'prometheus_client', 'websockets', 'webbrowser') if name in sys.modules))"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []


def test_the_version_stands_in_one_place() -> None:
    """The checkout's environment has no installed distribution: pyproject.toml takes the version from the package."""
    text = (roots.DATA / "pyproject.toml").read_text(encoding="utf-8")

    assert 'dynamic = ["version"]' in text
    assert airflow_celery_lab.__version__ not in text


def test_the_pages_name_the_wheel_that_is_built() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (roots.DATA / "docs").glob("*.md")]
    named = {version for text in pages for version in re.findall(r"airflow_celery_lab-([\d.]+)-py3", text)}

    assert named == {airflow_celery_lab.__version__}
