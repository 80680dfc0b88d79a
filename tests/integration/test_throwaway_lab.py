from __future__ import annotations

import sys

import pytest

from airflow_celery_lab.configuration.settings import MACHINE
from airflow_celery_lab.errors import NotRunningError
from airflow_celery_lab.testing import throwaway
from airflow_celery_lab.testing.throwaway import ThrowawayLab


def test_a_throwaway_lab_uses_this_machines_programs_and_nothing_else_of_the_users_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*MACHINE, "LAB_BIND", "AIRFLOW__CORE__PARALLELISM"):
        monkeypatch.setenv(name, "/somewhere")

    lab = ThrowawayLab()
    try:
        given = {name: value for name, value in lab.environ.items() if value == "/somewhere"}
        assert sorted(given) == sorted(MACHINE)
        assert lab.environ["LAB_VENV"] == sys.prefix.partition(".d/")[0]
    finally:
        lab.destroy()


def test_all_labs_of_a_session_that_is_broken_off_are_destroyed_and_take_no_command_any_more() -> None:
    labs = [ThrowawayLab(), ThrowawayLab()]

    throwaway.destroy_all()

    assert [lab.home for lab in labs if lab.home.exists()] == []
    for lab in labs:
        with pytest.raises(NotRunningError):
            lab.command("status")
