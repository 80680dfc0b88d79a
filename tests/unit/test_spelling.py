from __future__ import annotations

import pytest

from airflow_celery_lab.configuration import spelling
from airflow_celery_lab.configuration.overrides import Given


def told(name: str) -> list[str]:
    return list(spelling.mistyped({name: Given("8", "in .env")}))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AIRFLOW__CELERY__WORKER_CONCURENCY", "AIRFLOW__CELERY__WORKER_CONCURRENCY"),  # of a provider
        ("AIRFLOW__CORE__PARALELISM", "AIRFLOW__CORE__PARALLELISM"),
        ("AIRFLOW__core__parallelism", "AIRFLOW__CORE__PARALLELISM"),
        ("AIRFLOW__SHEDULER__TASK_QUEUED_TIMEOUT", "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT"),
        ("AIRFLOW__DATABASE__SQL_ALCHEMY_CON_CMD", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD"),
    ],
)
def test_a_mistyped_key_is_told_with_its_place_and_the_one_that_was_meant(name: str, meant: str) -> None:
    assert told(name) == [f"{name} (in .env) is no option of Airflow's, and has no effect; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        "AIRFLOW__CELERY__WORKER_CONCURRENCY",
        "AIRFLOW__CORE__SQL_ALCHEMY_CONN",  # An older place, which Airflow knows.
        "AIRFLOW__MY_PLUGIN__COLOUR",
        "AIRFLOW_CONN_SHOP",
        "AIRFLOW_VAR_PARALELISM",
        "PATH",
    ],
)
def test_nothing_is_told_of_any_other(name: str) -> None:
    assert told(name) == []
