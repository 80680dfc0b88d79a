from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flower import events

from airflow_celery_lab.configuration.roots import DATA as CHECKOUT


def configured() -> Any:
    """Return the configuration, read as Flower reads it."""
    spec = importlib.util.spec_from_file_location("flowerconfig", CHECKOUT / "config" / "flowerconfig.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def formatted(args: str | None) -> Any:
    """Return the task that Flower shows for one with these arguments."""
    return configured().format_task(SimpleNamespace(name="execute_workload", args=args, kwargs="{}"))


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_flower_shows_an_airflow_task_under_its_own_name(quote: str) -> None:
    task = formatted(f"{quote}etl.load[3] run manual__2026 try 2{quote}")

    assert (task.name, task.args, task.kwargs) == ("etl.load[3]", "run manual__2026 try 2", "")


@pytest.mark.parametrize("args", [None, "", "()", "a workload that is no task"])
def test_flower_shows_any_other_task_as_it_is(args: str | None) -> None:
    task = formatted(args)

    assert (task.name, task.args, task.kwargs) == ("execute_workload", args, "{}")


@pytest.mark.parametrize(
    ("args", "name"), [("'etl.load[3] run manual__2026 try 2'", "etl.load"), ("a workload that is no task", "execute_workload"), (None, "")]
)
def test_flower_counts_an_airflow_task_under_its_name_and_all_indices_together(
    args: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(
        events, "PrometheusMetrics", type("Fake", (), {"observe_task": lambda _, __, event, ___: counted.append(event["name"])})
    )
    task = SimpleNamespace(name="execute_workload" if args else None, args=args, kwargs="{}")

    configured().NamedMetrics().observe_task("celery@worker", {"type": "task-started", "name": "execute_workload"}, task)

    assert counted == [name]
    assert task.args == args


def test_flower_says_in_a_sentence_why_there_are_no_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_PROJECT", str(tmp_path))
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "state"))

    status, text = configured().look_at_lab()

    assert status == 503
    assert text.count("\n") == 1
    assert str(tmp_path / "state") in text
