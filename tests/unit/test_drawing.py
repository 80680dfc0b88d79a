from __future__ import annotations

import sys
import webbrowser
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_celery_lab.cli import drawing
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import ProjectError
from airflow_celery_lab.timeline.spans import Timeline

RUN = Timeline("dag", "manual__2026-01-01T00:00:00+00:00", "success", 0.0, 1.0, [])


def test_a_page_has_a_name_that_every_file_system_takes(tmp_path: Path) -> None:
    assert drawing._place(State(tmp_path), RUN).name == "dag.manual__2026-01-01T00_00_00+00_00.html"


@pytest.mark.parametrize("dag_id", ["..", "a/../../b", "\x1b[31m"])
def test_a_page_lies_in_the_state_folder_whatever_its_dag_is_called(tmp_path: Path, dag_id: str) -> None:
    path = drawing._place(State(tmp_path), replace(RUN, dag_id=dag_id))

    assert path.resolve().parent == (tmp_path / "timelines").resolve()
    assert str(path).isprintable()


def test_a_page_that_cannot_be_written_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"^cannot write .*/none/page\.html: No such file or directory; name another file"):
        drawing._write(tmp_path / "none" / "page.html", "")


def test_no_browser_is_opened_where_there_is_no_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def note(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr(webbrowser, "open", note)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in drawing.DISPLAYS:
        monkeypatch.delenv(name, raising=False)

    drawing._open(tmp_path / "a page.html")
    assert opened == []
    assert "open the page in your own" in capsys.readouterr().err

    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    drawing._open(tmp_path / "a page.html")
    assert opened == [f"file://{tmp_path}/a%20page.html"]
    assert capsys.readouterr().err == ""
