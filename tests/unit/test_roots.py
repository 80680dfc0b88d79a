from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_celery_lab.configuration import project, roots, settings
from airflow_celery_lab.errors import ProjectError


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_a_folder_with_dags_is_a_project_for_all_folders_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = folder(tmp_path / "mine" / "dags" / "team" / "a")
    monkeypatch.chdir(below)

    assert roots.find_project({}) == tmp_path / "mine"


def test_the_nearest_project_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "dags")
    inner = folder(tmp_path / "inner")
    (inner / "Procfile").touch()
    monkeypatch.chdir(inner)

    assert roots.find_project({}) == inner


def test_a_file_called_dags_and_a_folder_called_procfile_make_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dags").touch()
    folder(tmp_path / "Procfile")
    monkeypatch.chdir(tmp_path)

    assert roots.find_project({}) == roots.checkout()


def test_the_named_project_is_stronger_than_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "here" / "dags")
    there = folder(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")

    assert roots.find_project({"LAB_PROJECT": str(there)}) == there
    assert roots.find_project({"LAB_PROJECT": "../there"}) == there


def test_a_named_project_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ProjectError, match=r"^LAB_PROJECT=.*/none is not a folder; name the folder of your project, or unset it"
    ) as refusal:
        roots.find_project({"LAB_PROJECT": str(tmp_path / "none")})

    assert (refusal.value.path, refusal.value.setting) == (tmp_path / "none", "LAB_PROJECT")


def test_a_current_folder_that_was_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = folder(tmp_path / "gone")
    monkeypatch.chdir(gone)
    gone.rmdir()

    try:
        with pytest.raises(ProjectError, match=r"^the current folder has been deleted; change into another one"):
            roots.find_project({})
    finally:
        os.chdir(tmp_path)


def test_a_project_keeps_its_state_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "dags")
    monkeypatch.chdir(tmp_path)

    config = settings.load({})

    assert (config.project, config.home, config.dags) == (tmp_path, tmp_path / ".lab", tmp_path / "dags")


def test_init_writes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("mine: true\n")
    (tmp_path / ".gitignore").write_text("*.log\n.env")

    written = project.write(tmp_path)

    assert written == {
        "Procfile": False,
        ".env.example": True,
        ".gitignore": True,
        "dags/parallel_tasks.py": True,
        "dags/queue_routing.py": True,
    }
    assert (tmp_path / "Procfile").read_text() == "mine: true\n"
    assert (tmp_path / ".gitignore").read_text() == "*.log\n.env\n.lab/\n__pycache__/\n"
    assert not any(project.write(tmp_path).values())


def test_init_leaves_a_folder_of_dags_alone(tmp_path: Path) -> None:
    folder(tmp_path / "dags")

    project.write(tmp_path)

    assert list((tmp_path / "dags").iterdir()) == []
    assert "worker-default:  airflow-celery-lab exec airflow celery worker" in (tmp_path / "Procfile").read_text()
