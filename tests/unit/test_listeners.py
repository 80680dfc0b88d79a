from __future__ import annotations

from airflow_celery_lab.inside_airflow.listeners import SIGHT, Unheard


def test_a_task_is_given_up_when_nobody_has_listened_to_its_queue_for_too_long() -> None:
    unheard: Unheard[str] = Unheard(40)

    assert unheard.observe(0, {"task": "x"}, {"default"}) == []
    assert unheard.observe(39, {"task": "x"}, {"default"}) == []
    assert unheard.observe(40, {"task": "x"}, {"default"}) == ["task"]


def test_a_task_behind_busy_workers_is_never_given_up() -> None:
    unheard: Unheard[str] = Unheard(40)

    assert [unheard.observe(now, {"task": "default"}, {"default"}) for now in range(0, 1000, 10)] == [[]] * 100


def test_a_listener_that_was_there_for_a_moment_begins_the_time_anew() -> None:
    unheard: Unheard[str] = Unheard(40)
    for now, heard in ((0, set[str]()), (30, {"x"}), (33, set())):
        unheard.observe(now, {"task": "x"}, heard)

    assert unheard.observe(60, {"task": "x"}, set()) == []
    assert unheard.observe(73, {"task": "x"}, set()) == ["task"]


def test_a_task_that_is_taken_off_its_queue_and_sent_again_keeps_its_time() -> None:
    unheard: Unheard[str] = Unheard(40)
    unheard.observe(0, {"task": "x"}, set())
    unheard.observe(30, {"task": "x"}, set())
    unheard.observe(33, {}, set())

    assert unheard.observe(40, {"task": "x"}, set()) == ["task"]


def test_a_task_that_has_gone_is_forgotten() -> None:
    unheard: Unheard[str] = Unheard(10)
    unheard.observe(0, {"task": "x"}, set())
    unheard.observe(SIGHT + 1, {}, set())

    assert unheard.observe(SIGHT + 2, {"task": "x"}, set()) == []
