from __future__ import annotations

from pathlib import Path

from celery_lab import experiments, ledger
from celery_lab.experiments import Trial
from celery_lab.ledger import Balance, Entry

GOOD = Balance(tasks=2, succeeded=2, missing=0, hanging=0, failed=0, repeated=0)


def entry(task: int, event: str, try_number: int = 1) -> Entry:
    return Entry(task, try_number, event, "worker-default", 0.0)


def test_a_task_that_started_finished_and_succeeded_once_is_in_order() -> None:
    entries = [entry(0, "start"), entry(0, "finish"), entry(1, "start"), entry(1, "finish")]

    assert ledger.balance(entries, {0: "success", 1: "success"}, {0: 1, 1: 1}) == GOOD


def test_a_success_without_a_finish_is_missing() -> None:
    balance = ledger.balance([entry(0, "start")], {0: "success"}, {0: 1})

    assert (balance.missing, balance.lost) == (1, 1)


def test_a_second_start_is_counted_as_a_repeat_and_not_as_a_loss() -> None:
    balance = ledger.balance([entry(0, "start"), entry(0, "start", 2), entry(0, "finish", 2)], {0: "success"}, {0: 1})

    assert (balance.repeated, balance.lost, balance.succeeded) == (1, 0, 1)


def test_two_successful_tries_are_not_a_success_exactly_once() -> None:
    assert ledger.balance([entry(0, "start"), entry(0, "finish")], {0: "success"}, {0: 2}).succeeded == 0


def test_tasks_that_hang_or_fail_are_lost() -> None:
    balance = ledger.balance([], {0: "queued", 1: None, 2: "failed", 3: "upstream_failed"}, {})

    assert (balance.hanging, balance.failed, balance.lost) == (2, 2, 4)


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
