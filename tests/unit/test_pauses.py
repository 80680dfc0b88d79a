"""How long the scheduler sleeps between two rounds."""

from __future__ import annotations

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT
from airflow_celery_lab.helm import settings
from airflow_celery_lab.inside_airflow import pauses
from airflow_celery_lab.inside_airflow.pauses import Pauses


def test_the_executor_sleeps_most_of_each_pause_as_it_can_be_woken() -> None:
    own = float(settings.read((CHECKOUT / "config/airflow.cfg").read_text())["scheduler", "scheduler_idle_sleep_time"])

    found = pauses.before(own, users=False)

    assert [round(own + pause, 3) for pause in found] == [pauses.PACE, pauses.IDLE, pauses.REST]
    assert own < found.pace


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (0.01, Pauses(0, 0.03, 3.99)),
        (0.05, Pauses(0, 0.15, 3.95)),
        (0.25, Pauses(0, 0.75, 3.75)),
        (1, Pauses(0, 0, 0)),
        (5, Pauses(0, 0, 0)),
    ],
)
def test_a_users_own_setting_is_the_whole_pause_while_tasks_run_and_at_a_second_always(own: float, expected: Pauses) -> None:
    assert pauses.before(own, users=True) == pytest.approx(expected)
