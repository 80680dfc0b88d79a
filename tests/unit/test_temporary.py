from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher import temporary


@pytest.fixture
def state() -> Iterator[State]:
    """A state folder with a short path; those of pytest are longer where tests run beside each other."""
    with TemporaryDirectory(prefix="lab-", dir="/tmp") as folder:
        yield State(Path(folder))


def test_a_folder_is_made_anew_for_each_life(state: State) -> None:
    folder = temporary.make(state, "worker-a")
    assert folder == state.home / "tmp" / "worker-a"
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


def test_a_folder_that_is_somebody_elses_is_not_used(state: State) -> None:
    (state.home / "tmp").write_text("a file in the way")

    assert temporary.make(state, "w") is None
