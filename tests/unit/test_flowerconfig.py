from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT


def formatted(args: str | None) -> Any:
    """Return the task that Flower shows for one with these arguments, as Flower reads its configuration."""
    spec = importlib.util.spec_from_file_location("flowerconfig", CHECKOUT / "config" / "flowerconfig.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.format_task(SimpleNamespace(name="execute_workload", args=args, kwargs="{}"))


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_flower_shows_an_airflow_task_under_its_own_name(quote: str) -> None:
    task = formatted(f"{quote}etl.load[3] run manual__2026 try 2{quote}")

    assert (task.name, task.args, task.kwargs) == ("etl.load[3]", "run manual__2026 try 2", "")


@pytest.mark.parametrize("args", [None, "", "()", "a workload that is no task"])
def test_flower_shows_any_other_task_as_it_is(args: str | None) -> None:
    task = formatted(args)

    assert (task.name, task.args, task.kwargs) == ("execute_workload", args, "{}")
