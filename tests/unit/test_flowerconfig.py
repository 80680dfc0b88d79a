from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flower import events, options

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


def task_event(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "hostname": "celery@worker",
        "uuid": "1",
        "timestamp": 0.0,
        "local_received": 0.0,
        "utcoffset": 0,
        "clock": 1,
        "pid": 1,
    }


def test_flowers_history_is_saved_when_a_task_goes_on_and_again_only_after_a_hundred_times_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    saves: list[float] = []
    config = configured()

    def save(self: Any) -> None:
        nonlocal now
        original(self)
        saves.append(now)
        now += 0.5

    original = events.Events.save_state
    monkeypatch.setattr(events.Events, "save_state", save)
    monkeypatch.setattr(config, "time", SimpleNamespace(monotonic=lambda: now))
    loop = SimpleNamespace(add_callback=lambda function: function())
    history = str(tmp_path / "history")
    flower = config.SparingEvents(None, loop, db=history, persistent=True, enable_events=False, max_tasks_in_memory=10)

    flower.save_state()
    flower.on_event(task_event("worker-heartbeat"))
    flower.save_state()
    assert saves == []
    flower.on_event(task_event("task-received"))
    flower.save_state()
    flower.save_state()
    assert saves == [100.0]
    flower.on_event(task_event("task-started"))
    now += 49
    flower.save_state()
    assert saves == [100.0]
    now += 1
    flower.save_state()
    assert saves == [100.0, 150.5]
    flower.on_event(task_event("task-succeeded"))
    flower.stop()
    assert saves == [100.0, 150.5, 151.0]
    again = config.SparingEvents(None, loop, db=history, persistent=True, enable_events=False, max_tasks_in_memory=10)
    assert [task.state for task in again.state.tasks.values()] == ["SUCCESS"]


@pytest.mark.parametrize(
    ("option", "ours", "users"),
    [("max_tasks", 10_000, 7), ("purge_offline_workers", 60, 7), ("state_save_interval", 5_000, 0), ("persistent", True, False)],
)
def test_what_a_user_sets_of_flower_is_not_replaced(option: str, ours: object, users: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert getattr(configured(), option) == ours

    monkeypatch.setenv(f"FLOWER_{option.upper()}", str(users))
    monkeypatch.setattr(options.options.mockable(), option, users)

    assert getattr(configured(), option) == users
