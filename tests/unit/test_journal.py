from __future__ import annotations

from pathlib import Path

import pytest

from airflow_celery_lab.cluster import journal
from airflow_celery_lab.configuration.state import State


def test_what_was_done_is_read_in_the_order_in_which_it_was_done(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    journal.note(state, "kill", ["redis"])
    journal.note(state, "down")

    acts = journal.read(state)

    assert [(act.what, act.names) for act in acts] == [("kill", ["redis"]), ("down", [])]
    assert acts[0].when <= acts[1].when


def test_a_lab_in_which_nothing_was_done_has_an_empty_journal(tmp_path: Path) -> None:
    assert journal.read(State(tmp_path)) == []


def test_a_damaged_line_is_left_out(tmp_path: Path) -> None:
    state = State(tmp_path)
    for line in ('{"when": 1.0, "wh', "[]", '{"when": 1.0}', "\0"):
        state.journal.write_text(f"{line}\n")
        journal.note(state, "up")

        assert [act.what for act in journal.read(state)] == ["up"]


def test_the_journal_does_not_grow_without_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MOST", 1000)
    state = State(tmp_path)
    for number in range(200):
        journal.note(state, "kill", [f"w-{number}"])

        assert state.journal.stat().st_size <= journal.MOST

    assert journal.read(state)[-1].names == ["w-199"]


def test_a_disk_that_takes_nothing_does_not_stop_what_is_done(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")

    journal.note(State(tmp_path / "state"), "kill", ["redis"])
