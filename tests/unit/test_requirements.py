from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from airflow_celery_lab.configuration import requirements


def test_what_is_missing_or_too_old_is_named_and_all_else_is_left_alone() -> None:
    lines = [
        "# a comment",
        "-r other.txt",
        "./a/path",
        "",
        "Celery",
        "celery>=999  # newest",
        "no-such-thing[x]>1",
        'gone; python_version < "3"',
    ]

    assert list(requirements.unmet(lines)) == [f"celery>=999 (there is {version('celery')})", "no-such-thing[x]>1"]


def test_a_project_without_requirements_is_told_nothing_and_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert requirements.warnings(tmp_path, {}) == []
    assert requirements.warnings(tmp_path, {"LAB_REQUIREMENTS": "my.txt"}) == [
        "LAB_REQUIREMENTS=my.txt is not a file; name one or unset it."
    ]
