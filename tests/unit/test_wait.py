from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from airflow_celery_lab import wait
from airflow_celery_lab.errors import LabError, NotReadyError, NotRunningError
from airflow_celery_lab.wait import wait_until


def answers(*reasons: str | None) -> Callable[[], str | None]:
    """Return a probe that gives `reasons` one by one, then the last one for ever."""
    pending = list(reasons)
    return lambda: pending.pop(0) if len(pending) > 1 else pending[0]


def test_what_is_ready_is_not_waited_for() -> None:
    told: list[str] = []

    assert wait_until(answers(None), 0, "redis", interval=3600, on_wait=told.append) < 3600
    assert told == []


def test_waiting_ends_when_the_probe_has_no_reason_left() -> None:
    wait_until(answers("starting", "loading", None), 60, "redis", interval=0)


def test_the_reason_is_told_at_each_look() -> None:
    told: list[str] = []

    wait_until(answers("starting", "starting", "loading", None), 60, "redis", interval=0, on_wait=told.append)

    assert told == ["starting", "starting", "loading"]


def test_the_deadline_names_what_was_missing_and_the_last_reason() -> None:
    with pytest.raises(NotReadyError, match=r"^redis is not ready after 0\.01 s: loading\.$"):
        wait_until(answers("starting", "loading"), 0.01, "redis", interval=0.002)


def test_the_deadline_gives_advice_where_there_is_some() -> None:
    with pytest.raises(NotReadyError, match=r"^redis is not ready after 0 s: starting; see its log\.$"):
        wait_until(answers("starting"), 0, "redis", advice="see its log", interval=0)


@pytest.mark.parametrize("error", [NotRunningError, LabError])
def test_a_probe_that_sees_no_use_in_waiting_ends_it_at_once(error: type[LabError]) -> None:
    looks = 0

    def probe() -> str | None:
        nonlocal looks
        looks += 1
        raise error("every process has ended.")

    with pytest.raises(error, match=r"^every process has ended\.$"):
        wait_until(probe, 3600, "the cluster", interval=3600)
    assert looks == 1


@pytest.mark.parametrize(("look", "pause"), [(0.001, 0.1), (0.1, 0.3), (1.5, 0.5)])
def test_a_look_that_takes_long_is_followed_by_a_longer_pause_up_to_half_a_second(
    look: float, pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    pauses: list[float] = []
    reasons = answers("starting", None)

    def probe() -> str | None:
        nonlocal now
        now += look
        return reasons()

    monkeypatch.setattr(wait, "time", SimpleNamespace(monotonic=lambda: now, sleep=pauses.append))

    wait_until(probe, 60, "redis", interval=0.1)

    assert pauses == [pytest.approx(pause)]
