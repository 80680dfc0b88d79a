"""What tests use: the names of the pytest plugin's fixture `airflow_lab`, and labs of their own for the lab's tests.

    def test_heavy_tasks_go_to_their_own_worker(airflow_lab: AirflowLab) -> None:
        run = airflow_lab.run("etl")
        assert run.succeeded
        assert run.task("transform").worker == "worker-high-cpu"

docs/testing-dags.md has the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_celery_lab.testing.lab import AirflowLab
    from airflow_celery_lab.testing.run import LabRun, LabTask, Overlap
    from airflow_celery_lab.testing.throwaway import ThrowawayLab, throwaway_lab

__all__ = ["AirflowLab", "LabRun", "LabTask", "Overlap", "ThrowawayLab", "throwaway_lab"]

#: Where each name is; imported when it is asked for, as every session of pytest imports this package for its plugin.
_HOMES = {
    "AirflowLab": "lab",
    "LabRun": "run",
    "LabTask": "run",
    "Overlap": "run",
    "ThrowawayLab": "throwaway",
    "throwaway_lab": "throwaway",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
