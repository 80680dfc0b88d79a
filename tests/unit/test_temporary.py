from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import temporary


def test_a_folder_is_made_anew_for_each_life(tmp_path: Path) -> None:
    state = State(tmp_path)
    folder = temporary.make(state, "worker-a")
    assert folder == tmp_path / "tmp" / "worker-a" or len(str(tmp_path)) > 40
    assert folder is not None
    (folder / "pymp-left").mkdir()

    again = temporary.make(state, "worker-a")

    assert again == folder
    assert list(again.iterdir()) == []
    assert again.stat().st_mode & 0o777 == 0o700
    temporary.remove(again)
    assert not again.exists()


@pytest.mark.parametrize("length", [1, 30, 200])
def test_a_task_can_make_a_socket_in_it_wherever_the_state_is(length: int) -> None:
    state = State(Path("/srv") / ("x" * length))

    longest = temporary.folder(state, "worker-high-cpu-10") / "pymp-12345678" / "listener-12345678"

    assert len(os.fsencode(longest)) <= 103
    assert temporary.folder(state, "worker-a") != temporary.folder(state, "worker-b")
    assert longest.is_relative_to(state.home) == (length < 50)


def test_a_folder_that_is_somebody_elses_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "tmp").write_text("a file in the way")

    assert temporary.make(State(tmp_path), "w") is None
