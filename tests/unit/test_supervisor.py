from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from celery_lab import procfile, supervisor
from celery_lab.errors import ProcfileError
from celery_lab.settings import PROJECT

LINES = procfile.parse(
    "redis: ./lab exec redis\nworker: ./lab exec airflow celery worker -q 'a'\nworker-7: ./lab exec airflow celery worker\n"
)
RUNNING = supervisor.wanted(LINES)


def test_each_line_is_wanted_once_or_as_often_as_was_said() -> None:
    assert list(supervisor.wanted(LINES, {"worker": 3})) == ["redis", "worker", "worker-2", "worker-3", "worker-7"]


def test_a_plan_names_what_is_added_changed_and_removed_and_nothing_else() -> None:
    target = {"redis": RUNNING["redis"], "worker": "another command", "new": "a command"}

    plan = supervisor.plan(RUNNING, target)

    assert (plan.added, plan.changed, plan.removed) == (("new",), ("worker",), ("worker-7",))
    assert not supervisor.plan(RUNNING, dict(RUNNING))


def test_scaling_a_line_leaves_all_others_alone() -> None:
    running = {**RUNNING, "worker-2": RUNNING["worker"], "redis": "as it was started"}

    target = supervisor.scaled(running, LINES, "worker", 3)

    assert supervisor.plan(running, target) == supervisor.Plan(("worker-3",), (), ())
    assert supervisor.plan(running, supervisor.scaled(running, LINES, "worker", 0)).removed == ("worker", "worker-2")


def test_the_instances_of_a_line_stand_where_the_line_stands() -> None:
    running = {"redis": "r", **supervisor.wanted(LINES), "late": "l"}

    assert list(supervisor.scaled(running, LINES, "worker", 2)).index("late") == len(running)
    assert list(supervisor.scaled(running, LINES, "worker", 1)) == list(running)


def test_a_line_that_is_not_there_cannot_be_scaled() -> None:
    with pytest.raises(ProcfileError, match="no process 'nobody' to scale"):
        supervisor.scaled(RUNNING, LINES, "nobody", 2)


def test_commands_with_quotes_and_percent_signs_survive_the_configuration() -> None:
    programs = {"odd": """./lab exec sh -c 'echo "50%" $HOME'""", "plain": "./lab exec redis"}

    assert supervisor.parse(supervisor._render(programs, "/home/of lab")) == programs


def test_the_committed_configuration_is_what_honcho_export_makes_of_the_procfile(tmp_path: Path) -> None:
    command = ["export", "-a", "supervisord", "-t", "config/supervisord", "-l", "%(here)s/.lab", "supervisord", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "honcho", "-f", "Procfile", *command], cwd=PROJECT, capture_output=True, check=True)

    assert (tmp_path / "supervisord.conf").read_text() == (PROJECT / "supervisord.conf").read_text(), "run `./lab export`"
