from __future__ import annotations

import sys

import pytest

from airflow_celery_lab.configuration.settings import MACHINE
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
