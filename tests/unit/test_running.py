from __future__ import annotations

import socket

import pytest

from airflow_celery_lab.cli import running

HERE = socket.gethostname()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("jobs check --job-type SchedulerJob --local", "jobs check --job-type SchedulerJob"),
        (f"jobs check --job-type SchedulerJob --hostname {HERE}", "jobs check --job-type SchedulerJob"),
        (f"jobs check --hostname={HERE} --job-type TriggererJob", "jobs check --job-type TriggererJob"),
        ("jobs check --hostname scheduler", "jobs check --hostname scheduler"),
        ("jobs check --hostname", "jobs check --hostname"),
        ("dags list --local", "dags list --local"),
    ],
)
def test_a_check_of_the_jobs_of_this_host_is_one_of_all_jobs_in_the_lab(words: str, asked: str) -> None:
    assert running._of_this_lab(words.split()) == asked.split()
