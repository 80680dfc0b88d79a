from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from airflow_celery_lab.cli import tables
from airflow_celery_lab.cli.columns import Column, Fitted
from airflow_celery_lab.cluster.broker import Queue, Worker
from airflow_celery_lab.cluster.judgement import ProcessStatus, Status
from airflow_celery_lab.cluster.runs import Run, Task

#: Names that people and programs give.
NAMES = [
    "worker-default",
    "worker-high-cpu-12",
    "任务_提取所有的客户订单数据",
    "a" * 60,
]
WIDTHS = [40, 60, 80, 120]


def printed(table: Fitted | object, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, highlight=False).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def a_status(name: str) -> Status:
    long = "Postgres on port 15432: FATAL: the database system is starting up"
    return Status(
        ready=False,
        processes=[
            ProcessStatus(name, "worker", "running", 123456, ready=True, reason="", memory_mb=371),
            ProcessStatus("scheduler", "scheduler", "waiting", 1, ready=False, reason=long, memory_mb=None),
        ],
        workers=[Worker(name, ["default", "high_cpu", "a_queue_of_the_team"], 4, 1)],
        queues=[Queue("default", 12, [name, "another"]), Queue("gpu", 0, [])],
        warnings=["a word and another"],
    )


def a_run(name: str, worker: str) -> Run:
    times = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:04Z")
    return Run("dag", "run", "success", [Task(name, index, 1, "success", "default", worker, *times, waited=1.0) for index in (1, 10)])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_longer_than_the_terminal_and_no_name_is_broken(name: str, width: int) -> None:
    shown = [*printed(tables.status(a_status(name)), width), *printed(tables.run(a_run(name, "worker-default")), width)]

    assert not [line for line in shown if cell_len(line) > width]
    if cell_len(name) <= 20:
        # Once among the processes, the workers and the listeners, and for two tasks.
        assert sum(name in line for line in shown) == 5


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_a_run_is_one_line_with_its_task_and_its_state(name: str, width: int) -> None:
    shown = printed(tables.run(a_run(name, "worker-default")), width)

    assert len(shown) == 4
    assert [line.split()[0][-4:] for line in shown[1:3]] == ["a[1]", "[10]"] if name == "a" * 60 else True
    assert all("success" in line for line in shown[1:3])


def test_the_least_important_columns_leave_first() -> None:
    heads = [printed(tables.run(a_run("compute", "worker-high-cpu")), width)[0].split() for width in (80, 70, 64, 50, 40)]

    assert heads == [
        ["TASK", "STATE", "TRY", "QUEUE", "WORKER", "WAITED", "START", "END", "SECONDS"],
        ["TASK", "STATE", "QUEUE", "WORKER", "WAITED", "START", "SECONDS"],
        ["TASK", "STATE", "QUEUE", "WORKER", "WAITED", "SECONDS"],
        ["TASK", "STATE", "WORKER", "SECONDS"],
        ["TASK", "STATE", "WORKER"],
    ]


def test_nothing_is_left_out_where_there_is_room_or_no_terminal() -> None:
    for name in NAMES:
        (head, *rows) = printed(tables.run(a_run(name, "w" * 60)), tables.UNCUT)

        assert head.split() == [column.title for column in tables.TASKS]
        assert all(name in row and "w" * 60 in row for row in rows[:2])


def test_a_sentence_goes_on_between_its_words_and_keeps_enough_room_to_be_read() -> None:
    table = Fitted(Column("NAME"), Column("PID", leaves=1), Column("WHY", sentence=True))
    table.add("worker-default", "123456", "it does not listen on high_cpu")

    assert printed(table, 40) == [
        "NAME            WHY",
        "worker-default  it does not listen on",
        "                high_cpu",
    ]


def test_a_name_is_cut_in_its_middle_as_the_last_resort() -> None:
    table = Fitted(Column("TASK"), Column("STATE"), Column("QUEUE", leaves=1))
    for index in (1, 10):
        table.add(f"extract_everything_of_the_customers[{index}]", "success", "default")

    assert printed(table, 30) == [
        "TASK                   STATE",
        "extract_everyt…ers[1]  success",
        "extract_everyt…rs[10]  success",
    ]


def test_a_workers_name_is_cut_before_it_is_left_out_and_left_out_before_a_task_is_cut() -> None:
    run = a_run("compute", "w" * 60)

    assert printed(tables.run(run), 60)[1] == f"compute[1]   success  {'w' * 37}…"
    assert printed(tables.run(run), 30)[1] == "compute[1]   success"


def test_what_a_terminal_would_obey_is_shown_and_not_obeyed() -> None:
    table = Fitted(Column("QUEUE"))
    table.add("red\x1b[31m\nqueue")

    assert printed(table, 40) == ["QUEUE", r"red\x1b[31m\nqueue"]
