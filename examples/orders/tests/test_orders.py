"""What only a cluster shows of the DAG `orders`: where its tasks run, what runs at once, and what a lost worker costs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from airflow_celery_lab.testing import AirflowLab, LabRun

TOTALS = [("2026-01-31", "1", 60), ("2026-01-31", "2", 20), ("2026-01-31", "3", 300)]


def loaded(database: Path) -> list[tuple[str, str, int]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT day, id, total FROM orders ORDER BY day, id").fetchall()


@pytest.fixture(scope="module")
def run(airflow_lab: AirflowLab, tmp_path_factory: pytest.TempPathFactory) -> LabRun:
    """One run, which several tests look at."""
    database = tmp_path_factory.mktemp("orders") / "orders.db"
    return airflow_lab.run("orders", conf={"day": "2026-01-31", "database": str(database)})


def test_the_run_succeeds(run: LabRun) -> None:
    assert run.succeeded


def test_the_transformation_runs_on_the_worker_for_heavy_tasks(run: LabRun) -> None:
    assert run.task("transform").worker == "worker-high-cpu"
    assert {task.worker for task in run.tasks() if task.queue == "default"} == {"worker-default"}


def test_both_extractions_run_at_once(run: LabRun) -> None:
    assert run.overlap("extract_orders", "extract_prices")


@pytest.mark.lab_alone
def test_a_lost_worker_costs_a_retry_and_nothing_else(airflow_lab: AirflowLab, tmp_path: Path) -> None:
    conf = {"day": "2026-01-31", "database": str(tmp_path / "orders.db"), "load_seconds": 3}

    with airflow_lab.running("orders", conf) as run:
        airflow_lab.kill(run.wait_for("load").worker)

    assert run.succeeded
    assert run.task("load").tries == 2
    assert all(task.tries == 1 for task in run.tasks() if task.name != "load")
    assert loaded(tmp_path / "orders.db") == TOTALS
