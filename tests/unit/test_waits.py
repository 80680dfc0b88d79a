from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_celery_lab.cluster.waits import Key, Waits

TASK: Key = ("t", -1, 1)


def at(second: float | None) -> str | None:
    return None if second is None else f"2026-01-01T00:{int(second) // 60:02}:{second % 60:06.3f}Z"


def seen(state: str, scheduled: float | None, start: float | None = None, end: float | None = None, number: int = 1) -> dict[str, Any]:
    times = {"scheduled_when": at(scheduled), "start_date": at(start), "end_date": at(end)}
    return {"task_id": "t", "map_index": -1, "try_number": number, "state": state, **times}


def waited(*looks: dict[str, Any], takes: Mapping[Key, list[float]] | None = None) -> float | None:
    waits = Waits()
    for look in looks:
        waits.observe([look], takes or {})
    seconds = waits.seconds(looks[-1])
    return seconds and round(seconds, 3)


def epoch(second: float) -> float:
    return 1767225600 + second


def test_a_task_has_waited_from_when_it_could_run_until_a_worker_took_it() -> None:
    assert waited(seen("success", 1, 3.5, 9)) == 2.5
    assert waited(seen("running", 1, 1)) == 0.0


def test_nothing_is_known_of_a_task_that_still_waits_or_was_never_due() -> None:
    assert waited(seen("queued", 1)) is None
    assert waited(seen("none", None)) is None
    assert waited(seen("upstream_failed", None, None, 4)) is None


def test_a_task_that_was_queued_anew_has_waited_since_it_was_queued_first() -> None:
    assert waited(seen("queued", 1), seen("scheduled", 31), seen("queued", 31), seen("running", 31, 40)) == 39
    assert waited(seen("queued", 1), seen("running", 31, 40)) == 39


def test_the_waits_of_a_deferred_task_are_added_though_airflow_forgets_the_first() -> None:
    looks = [seen("queued", 1), seen("running", 1, 3), seen("deferred", 1, 3), seen("queued", 20, 3), seen("success", 20, 3, 26)]

    assert waited(*looks, takes={TASK: [epoch(3.1), epoch(24)]}) == 2 + 4


def test_the_waits_of_a_rescheduled_task_are_added() -> None:
    assert waited(seen("running", 1, 3), seen("up_for_reschedule", 1, 3), seen("scheduled", 10, 3), seen("success", 10, 15, 16)) == 2 + 5


def test_the_wait_of_an_earlier_try_is_not_that_of_the_last() -> None:
    assert waited(seen("running", 1, 31), seen("up_for_retry", 1, 31), seen("running", 40, 41, number=2)) == 1


def test_a_task_that_failed_before_a_worker_took_it_has_waited_until_then() -> None:
    assert waited(seen("failed", 1, None, 41)) == 40
    assert waited(seen("queued", 1), seen("failed", 31, None, 41)) == 40


def test_events_are_needed_only_where_a_task_went_on_after_a_deferral() -> None:
    waits = Waits()
    resumed = [seen("running", 20, 3)]

    assert not waits.lacks_events([seen("queued", 20, 3), seen("success", 1, 3), seen("failed", 1, None, 4), seen("none", None)])
    assert waits.lacks_events(resumed)
    waits.observe(resumed, {TASK: [epoch(24)]})
    assert not waits.lacks_events(resumed)
