from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from airflow_celery_lab.cli import side_by_side
from airflow_celery_lab.configuration import roots
from airflow_celery_lab.errors import ReleaseError
from airflow_celery_lab.releases import installation, reports
from airflow_celery_lab.releases.comparison import Comparison, ImportedFile, Result, Side, Warned

OLD = Warned("dags/a.py", 3, "DeprecationWarning", "a is old")
NEW = Warned("dags/b.py", 4, "RemovedInAirflow4Warning", "b goes")
PROJECT = Path("/project")


def found(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    return Comparison(Side("3.1", "3.1.8", **before), Side("3.3", "3.3.2", **after))


def outcomes(before: str | None, after: str | None) -> Comparison:
    one, other = ({} if outcome is None else {"t": Result(outcome, 1.0)} for outcome in (before, after))
    return found({"tests": one}, {"tests": other})


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        ("passed", "failed", True),
        ("passed", "error", True),
        ("passed", None, True),
        ("passed", "skipped", False),
        ("failed", "failed", False),
        ("xfailed", "failed", False),
        (None, "error", False),
        ("failed", "passed", False),
    ],
)
def test_a_test_is_broken_when_it_passed_before_and_fails_or_is_missing_after(
    before: str | None, after: str | None, *, broken: bool
) -> None:
    assert outcomes(before, after).broken == (["t"] if broken else [])


def test_a_dag_file_is_broken_when_it_cannot_be_read_or_has_lost_a_dag() -> None:
    before = {
        "lost": ImportedFile(["a", "b"]),
        "unread": ImportedFile(["c"]),
        "more": ImportedFile(["d"]),
        "never": ImportedFile(error="no"),
    }
    after = {
        "lost": ImportedFile(["a"]),
        "unread": ImportedFile(error="no"),
        "more": ImportedFile(["d", "e"]),
        "never": ImportedFile(error="no"),
    }

    comparison = found({"files": before}, {"files": after})

    assert comparison.broken == ["lost", "unread"]
    assert [pair.name for pair in comparison.files if pair.differs] == ["lost", "more", "unread"]


def test_two_environments_with_one_version_go_by_the_names_that_were_typed() -> None:
    assert Comparison(Side("./a", "3.3.2"), Side("./b", "3.3.2")).names == ("./a", "./b")
    assert Comparison(Side("./a", "3.3.1"), Side("./b", "3.3.2")).names == ("3.3.1", "3.3.2")


def test_what_differs_is_shown_with_its_reason_and_new_warnings_come_first() -> None:
    comparison = found(
        {
            "files": {"dags/c.py": ImportedFile(["c"])},
            "tests": {"t": Result("passed", 0.1), "same": Result("passed", 1)},
            "warnings": [OLD],
        },
        {
            "files": {"dags/c.py": ImportedFile(error="ImportError: no d")},
            "tests": {"t": Result("failed", 0.2, "assert 0"), "same": Result("passed", 9)},
            "warnings": [OLD, NEW],
        },
    )
    file = io.StringIO()
    Console(file=file, width=200, color_system=None).print(side_by_side.comparison(comparison))

    assert [" ".join(line.split()) for line in file.getvalue().splitlines() if line.strip()] == [
        "DAG FILE 3.1.8 3.3.2",
        "dags/c.py c cannot be read",
        "dags/c.py with 3.3.2: ImportError: no d",
        "TEST 3.1.8 3.3.2",
        "t passed, 0.1 s failed, 0.2 s",
        "t with 3.3.2: assert 0",
        "WARNING CATEGORY WITH MESSAGE",
        "dags/b.py:4 RemovedInAirflow4Warning 3.3.2 b goes",
        "dags/a.py:3 DeprecationWarning 3.1.8, 3.3.2 a is old",
        "1 DAG file: 1 different, 1 broken by 3.3.2",
        "2 tests: 1 different, 1 broken by 3.3.2",
        "2 warnings: 1 with 3.3.2 alone, 0 with 3.1.8 alone",
    ]


def warned(file: str, category: str = "DeprecationWarning", dags: Path = PROJECT / "dags", **more: Any) -> list[Warned]:
    one = {"file": file, "line": 7, "category": category, "message": "old", **more}
    return list(reports.side("3.3", {"airflow": "3.3.2", "files": {}, "warnings": [one, one]}, None, PROJECT, dags).warnings)


def test_warnings_are_those_about_the_projects_lines_and_airflows_own() -> None:
    library = "/project/.venv/lib/python3.11/site-packages/airflow/x.py"

    assert warned("/project/dags/a.py") == [Warned("dags/a.py", 7, "DeprecationWarning", "old")]
    assert warned("/elsewhere/flows/a.py", dags=Path("/elsewhere/flows")) == [Warned("flows/a.py", 7, "DeprecationWarning", "old")]
    assert warned(library) == []
    assert warned(library, "airflow.exceptions.RemovedInAirflow4Warning", importer="/project/dags/a.py") == [
        Warned("dags/a.py", None, "RemovedInAirflow4Warning", "old")
    ]
    assert warned(library, "airflow.exceptions.RemovedInAirflow4Warning") == [
        Warned("airflow/x.py", None, "RemovedInAirflow4Warning", "old")
    ]


def test_an_installed_package_says_how_to_compare_without_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "checkout", lambda: None)

    with pytest.raises(ReleaseError, match=r"^only a checkout makes an environment for a release such as 3\.2; make one for each release"):
        installation.find("3.2", {})
    with pytest.raises(ReleaseError, match=r"^3\.x is neither a release, such as 3\.2, nor a folder with a Python environment in it"):
        installation.find("3.x", {})


def test_an_environment_in_a_folder_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/sh")

    found = installation.find(str(tmp_path), {"LAB_AIRFLOW": "3.1", "A": "b"})

    assert (found.command, found.environ) == ([f"{tmp_path}/bin/python", "-m", "airflow_celery_lab"], {"A": "b"})
