from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from rich.console import Console, RenderableType

from airflow_celery_lab.cli import tables as display
from airflow_celery_lab.cluster.autoscaled import Autoscaled
from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import ProcessStatus, Status
from airflow_celery_lab.cluster.link_status import LinkStatus
from airflow_celery_lab.cluster.runs import Run, Task


def lines(renderable: RenderableType) -> list[str]:
    """Return the printed lines, each with single spaces between its words."""
    file = io.StringIO()
    Console(file=file, width=200, color_system=None).print(renderable)
    return [" ".join(line.split()) for line in file.getvalue().splitlines()]


def task(task_id: str, **changes: Any) -> Task:
    known = {"map_index": -1, "try_number": 1, "state": "success", "queue": "default", "worker": "worker-default"}
    times = {"queued": "2026-01-01T00:00:00Z", "start": "2026-01-01T00:00:01.500Z", "end": "2026-01-01T00:00:04Z", "waited": 1.5}
    return Task(**{"task_id": task_id, **known, **times, **changes})


STATUS = Status(
    ready=False,
    processes=[
        ProcessStatus("redis", "redis", "running", 11, ready=True, reason="", memory_mb=12.4),
        ProcessStatus("scheduler", "scheduler", "stopped", None, ready=False, reason="not running", memory_mb=None),
    ],
    workers=[Worker("worker-a", ["a", "b"], 4, 1)],
    queues=[Queue("a", 0, ["worker-a"]), Queue("gpu", 3, [])],
    warnings=["3 tasks wait"],
)


def test_a_status_shows_each_process_and_why_it_is_not_ready() -> None:
    shown = lines(display.status(STATUS))

    assert shown[0] == "PROCESS STATE PID MEMORY READY"
    assert "redis running 11 12 MB ready" in shown
    assert "scheduler stopped - - not running" in shown


def test_a_status_shows_workers_queues_and_warnings() -> None:
    shown = lines(display.status(STATUS))

    assert "worker-a a, b 4 1" in shown
    assert "a 0 worker-a" in shown
    assert "gpu 3 none" in shown
    assert shown[-1] == "warning: 3 tasks wait"


def test_a_status_shows_how_many_workers_an_autoscaler_wants_and_why() -> None:
    line = Autoscaled("worker-a", 1, 6, 3, 2, "12 tasks on 4 slots a worker", "", "", 7)

    shown = lines(display.status(replace(STATUS, autoscaled=[line])))

    assert "AUTOSCALED WANTED ACTUAL RANGE WHY" in shown
    assert "worker-a 3 2 1..6 12 tasks on 4 slots a worker" in shown
    assert not [text for text in lines(display.status(STATUS)) if "AUTOSCALED" in text]


def test_a_status_shows_how_each_link_is_where_one_may_be_slow_or_cut() -> None:
    cut = LinkStatus("redis", 0.0, cut=True, condition="cut: nothing gets across")

    shown = lines(display.status(replace(STATUS, links=[cut])))

    assert "LINK TO CONDITION" in shown
    assert "redis cut: nothing gets across" in shown
    assert not [text for text in lines(display.status(STATUS)) if "LINK TO" in text]


def test_a_status_of_a_stopped_lab_shows_its_processes_alone() -> None:
    stopped = Status(ready=False, processes=STATUS.processes, workers=[], queues=[], warnings=[])

    assert len(lines(display.status(stopped))) == 3


def test_brackets_in_a_reason_are_shown_as_they_are() -> None:
    strange = ProcessStatus("redis", "redis", "running", 11, ready=False, reason="[red]no[/red] [Errno 111]", memory_mb=None)

    shown = lines(display.status(Status(ready=False, processes=[strange], workers=[], queues=[], warnings=["see [/bold]"])))

    assert "redis running 11 - [red]no[/red] [Errno 111]" in shown
    assert "warning: see [/bold]" in shown


def test_a_run_shows_how_long_tasks_waited_and_when_they_ran_in_seconds_since_it_began() -> None:
    later = task("later", waited=3.0, start="2026-01-01T00:00:05Z", end="2026-01-01T00:00:05.250Z")

    shown = lines(display.run(Run("dag", "run", "success", [task("first"), later], start="2026-01-01T00:00:00Z")))

    assert shown == [
        "TASK STATE TRY QUEUE WORKER WAITED START END SECONDS",
        "first success 1 default worker-default 1.5 1.5 4.0 2.5",
        "later success 1 default worker-default 3.0 5.0 5.2 0.2",
        "dag run: success",
    ]


def test_no_time_of_a_run_is_negative_though_tasks_of_it_were_cleared_later() -> None:
    shown = lines(display.run(Run("dag", "run", "success", [task("kept"), task("anew")], start="2026-01-01T00:00:01.540Z")))

    assert "kept success 1 default worker-default 1.5 0.0 2.5 2.5" in shown
    assert not [line for line in shown if " -0" in line]


def test_a_run_shows_what_has_not_happened_yet_as_a_dash() -> None:
    waits = task("waits", state="queued", worker=None, start=None, end=None, waited=None)
    nothing = task("nothing", state=None, queue=None, worker=None, queued=None, start=None, end=None, waited=None)

    shown = lines(display.run(Run("dag", "run", "running", [waits, nothing])))

    assert "waits queued 1 default - - - - -" in shown
    assert "nothing none 1 - - - - - -" in shown


def test_the_reasons_of_a_run_stand_below_its_table_and_its_progress() -> None:
    run = Run("dag", "run", "failed", [task("f")], {"f": "the [pool] is missing"})

    assert lines(display.run(run))[-2:] == ["f: the [pool] is missing", "dag run: failed"]
    assert lines(display.progress(run))[-1] == "f: the [pool] is missing"


def test_a_run_without_tasks_shows_its_state() -> None:
    assert lines(display.run(Run("dag", "run", "queued", [])))[-1] == "dag run: queued"


def test_a_mapped_task_is_shown_with_its_index() -> None:
    assert task("square", map_index=0).name == "square[0]"
    assert task("square").name == "square"


def test_progress_counts_the_tasks_of_each_state() -> None:
    tasks = [task("a"), task("b"), task("c", state="running"), task("d", state=None)]

    assert str(display.progress(Run("dag", "run", "running", tasks))) == "running: 1 none, 1 running, 2 success"
