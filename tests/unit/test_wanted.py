from __future__ import annotations

import pytest

from airflow_celery_lab.configuration import procfile
from airflow_celery_lab.errors import ProcfileError
from airflow_celery_lab.launcher.registry import Record
from airflow_celery_lab.supervision import wanted

LINES = procfile.parse(
    "redis: ./lab exec redis\nworker: ./lab exec airflow celery worker -q 'a'\nworker-7: ./lab exec airflow celery worker\n"
)
RUNNING = procfile.instances(LINES)


def test_each_line_is_wanted_once_or_as_often_as_was_said() -> None:
    assert list(procfile.instances(LINES, {"worker": 3})) == ["redis", "worker", "worker-2", "worker-3", "worker-7"]


def test_a_plan_names_what_is_added_changed_and_removed_and_nothing_else() -> None:
    target = {"redis": RUNNING["redis"], "worker": "another command", "new": "a command"}

    plan = wanted.plan(RUNNING, target)

    assert (plan.added, plan.changed, plan.removed) == (("new",), ("worker",), ("worker-7",))
    assert not wanted.plan(RUNNING, dict(RUNNING))


def test_scaling_a_line_leaves_all_others_alone() -> None:
    running = {**RUNNING, "worker-2": RUNNING["worker"], "redis": "as it was started"}

    target = wanted.scaled(running, LINES, {"worker": 3})

    assert wanted.plan(running, target) == wanted.Plan(("worker-3",), (), ())
    assert wanted.plan(running, wanted.scaled(running, LINES, {"worker": 0})).removed == ("worker", "worker-2")


def test_the_instances_of_a_line_stand_where_the_line_stands() -> None:
    running = {"redis": "r", **procfile.instances(LINES), "late": "l"}

    assert list(wanted.scaled(running, LINES, {"worker": 2})).index("late") == len(running)
    assert list(wanted.scaled(running, LINES, {"worker": 1})) == list(running)


def test_a_line_that_is_not_there_cannot_be_scaled() -> None:
    with pytest.raises(ProcfileError, match="no process 'nobody' to scale"):
        wanted.scaled(RUNNING, LINES, {"nobody": 2})


def test_an_instance_may_not_take_the_name_of_another_line() -> None:
    lines = procfile.parse("worker: ./lab exec airflow celery worker\nworker-2: ./lab exec airflow celery worker\n")

    with pytest.raises(ProcfileError, match="two processes would be called 'worker-2'"):
        wanted.scaled(procfile.instances(lines), lines, {"worker": 2})


def test_a_scheduler_that_could_not_fill_all_slots_starts_again_unless_the_user_has_set_its_bound() -> None:
    scheduler = Record("scheduler", 1, 2, ["airflow", "scheduler"], "supervisord", "running", "", 0, parallelism=32)
    records = {"scheduler": scheduler, "redis": scheduler._replace(name="redis", parallelism=0)}

    assert wanted.outgrown(records, 33, is_set=False) == ["scheduler"]
    assert wanted.outgrown(records, 33, is_set=True) == []
    assert wanted.outgrown(records, 32, is_set=False) == []
