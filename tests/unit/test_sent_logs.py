"""How the logs of tasks on joined machines come to the main machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_celery_lab.remote import sent_logs

NAME = "dag_id=a/run_id=manual__1/task_id=t/attempt=1.log"


def test_parts_make_the_log_and_one_that_comes_twice_counts_once(tmp_path: Path) -> None:
    log, note = tmp_path / "here" / "1.log", tmp_path / "notes" / "1.log"

    assert sent_logs.take(log, note, 0, b"one\n") is None
    assert sent_logs.take(log, note, 0, b"one\n") is None
    assert sent_logs.take(log, note, 2, b"e\ntwo\n") is None

    assert log.read_bytes() == b"one\ntwo\n"


def test_a_line_of_the_labs_own_between_two_parts_costs_none_of_them(tmp_path: Path) -> None:
    log, note = tmp_path / "1.log", tmp_path / "1.note"
    sent_logs.take(log, note, 0, b"one\n")
    with log.open("ab") as file:
        file.write(b"the worker was lost\n")

    sent_logs.take(log, note, 4, b"two\n")

    assert log.read_bytes() == b"one\nthe worker was lost\ntwo\n"


def test_a_part_beyond_what_has_come_is_answered_with_that(tmp_path: Path) -> None:
    log, note = tmp_path / "1.log", tmp_path / "1.note"
    sent_logs.take(log, note, 0, b"one\n")

    assert sent_logs.take(log, note, 9, b"later\n") == 4
    assert log.read_bytes() == b"one\n"


@pytest.mark.parametrize("name", ["../x.log", "dag_id=a/../../x.log", "/etc/x.log", "dag_id=a/x.py", "airflow/x.log", ""])
def test_only_logs_of_tasks_are_taken(name: str, tmp_path: Path) -> None:
    assert sent_logs.place(tmp_path, name) is None
    assert sent_logs.place(tmp_path, NAME) == tmp_path / NAME


def test_what_has_grown_since_the_folder_joined_is_sent(tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "sent")):
        path = tmp_path / NAME.replace("=t", f"={name}")
        path.parent.mkdir(parents=True)
        path.write_text("1234")
        os.utime(path, (1000.0 * number, 1000.0 * number))
    sent = {tmp_path / NAME.replace("=t", "=sent"): 4}

    assert [path.parent.name for path in sent_logs.grown(tmp_path, sent, 500.0)] == ["task_id=new"]
