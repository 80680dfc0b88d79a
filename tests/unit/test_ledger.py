from __future__ import annotations

from pathlib import Path

import pytest

from airflow_celery_lab.experiments import ledger
from airflow_celery_lab.experiments import trials as experiments
from airflow_celery_lab.experiments.ledger import Balance, Entry
from airflow_celery_lab.experiments.trials import Trial

GOOD = Balance(tasks=2, lost={}, repeated=0)
DONE = ("start", "finish")


def entry(task: int, event: str, try_number: int = 1) -> Entry:
    return Entry(task, try_number, event, "worker-default", 0.0)


def test_tasks_that_started_finished_and_succeeded_once_are_in_order() -> None:
    entries = [entry(task, event) for task in (0, 1) for event in DONE]

    assert ledger.balance(2, entries, {0: "success", 1: "success"}, {0: 1, 1: 1}) == GOOD


def test_a_second_start_is_counted_as_a_repeat_and_not_as_a_loss() -> None:
    balance = ledger.balance(1, [entry(0, "start"), entry(0, "start", 2), entry(0, "finish", 2)], {0: "success"}, {0: 1})

    assert (balance.repeated, balance.lost) == (1, {})


def test_what_a_fault_cut_off_is_what_had_started_and_starts_once_more() -> None:
    entries = [
        Entry(0, 1, "start", "w", 1.0),  # is cut off
        Entry(1, 1, "start", "w", 1.0),  # has ended, but nobody knows yet
        Entry(1, 1, "finish", "w", 2.0),
        Entry(2, 1, "start", "w", 1.0),  # goes on
        Entry(3, 1, "start", "w", 6.0),  # begins later
        Entry(0, 2, "start", "w", 7.0),
        Entry(1, 2, "start", "w", 7.5),
    ]

    assert ledger.again(entries, 5.0) == [2.0, 2.5]
    assert ledger.again(entries, 5.0, [3]) == [1.0]


@pytest.mark.parametrize(
    ("events", "state", "successes", "reason"),
    [
        (("start",), "success", 1, "no finish"),
        (DONE, "success", 2, "2 successful tries"),
        (DONE, "success", 0, "0 successful tries"),
        (DONE, "failed", 0, "says failed"),
        (("start",), "queued", 0, "says queued"),
        ((), None, 0, "says None"),
    ],
)
def test_whatever_is_not_a_success_exactly_once_is_lost(events: tuple[str, ...], state: str | None, successes: int, reason: str) -> None:
    balance = ledger.balance(1, [entry(0, event) for event in events], {0: state}, {0: successes})

    assert reason in balance.lost[0]


def test_a_task_that_airflow_does_not_have_is_lost() -> None:
    balance = ledger.balance(2, [entry(0, event) for event in DONE], {0: "success"}, {0: 1})

    assert list(balance.lost) == [1]


def test_a_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    line = '{"task": 3, "try": 1, "event": "start", "worker": "w", "time": 1.5}\n'
    path.write_text(line + line[:20])

    assert ledger.read(path) == [Entry(3, 1, "start", "w", 1.5)]
    assert ledger.read(tmp_path / "no such file") == []


def test_the_table_has_a_row_a_fault_with_the_median_and_the_longest_recovery() -> None:
    trials = [Trial("kill-redis", seconds, "success", GOOD) for seconds in (3.0, 9.0, 4.0)] + [Trial("kill-worker", None, "running", GOOD)]

    redis, worker = experiments.summary(trials)

    assert (redis.trials, redis.recovered, redis.median, redis.maximum, redis.tasks) == (3, 3, 4.0, 9.0, 6)
    assert (worker.trials, worker.recovered, worker.median) == (1, 0, None)
