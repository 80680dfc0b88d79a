from __future__ import annotations

from typing import Any

import pytest

from airflow_celery_lab.cluster import reasons


def error(event: str, logger: str = "task", level: str = "error", **more: Any) -> dict[str, Any]:
    return {"event": event, "level": level, "logger": logger, **more}


def raised(kind: str, message: str) -> dict[str, Any]:
    return error("Task failed with exception", error_detail=[{"exc_type": kind, "exc_value": message}])


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ([], ""),
        ([{"event": "::group::Log message source details"}, {"event": "all well", "level": "info"}, "a bare line"], ""),
        ([raised("ModuleNotFoundError", "No module named 'x'")], "ModuleNotFoundError: No module named 'x'"),
        ([raised("AssertionError", "")], "AssertionError"),
        ([raised("ValueError", "first\nsecond")], "ValueError: first"),
        (
            [error("Task not found in Dag during start up", path="two.py"), error("Startup reschedule limit exceeded")],
            "Task not found in Dag during start up (two.py)",
        ),
        (
            [
                error(
                    "Process terminated by signal. Likely out of memory error (OOM). For more information, see https://x.test.",
                    level="critical",
                )
            ],
            "Process terminated by signal. Likely out of memory error (OOM)",
        ),
        (
            [
                error("Failed to import: /d/x.py", "airflow.dag_processing.x", error_detail=[{"exc_type": "NameError", "exc_value": "x"}]),
                error("Dag not found during start up"),
            ],
            "Failed to import: /d/x.py: NameError: x",
        ),
        # What the user's own code says is not why Airflow gave it up.
        ([error("cannot connect, trying again", "my.module"), raised("TimeoutError", "late")], "TimeoutError: late"),
        ([error("No worker has listened", "airflow_celery_lab.inside_airflow.executor")], "No worker has listened"),
        ([error("the only thing said", "my.module")], "the only thing said"),
    ],
)
def test_a_log_tells_why_its_task_failed(log: list[Any], reason: str) -> None:
    assert reasons.in_log(log) == reason
