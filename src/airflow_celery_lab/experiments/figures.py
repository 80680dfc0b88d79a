"""Figures of a timeline: what experiments are judged by. Data from data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from airflow_celery_lab.timeline.spans import Kind, Mark, Span, Timeline


def spans(timeline: Timeline, kind: Kind, *tasks: str) -> list[Span]:
    """Return the spans of one kind, of the tasks with these ids alone where any are given."""
    return [span for span in timeline.of_kind(kind) if not tasks or span.task_id in tasks]


def peak(timeline: Timeline, found: Iterable[Span]) -> int:
    """Return how many of the spans went on at one moment, at most. One that begins when another ends does not overlap it."""
    changes = sorted((when, step) for span in found for when, step in ((span.start, 1), (timeline.until(span), -1)))
    most = now = 0
    for _, step in changes:
        now += step
        most = max(most, now)
    return most


def duration(timeline: Timeline, found: Sequence[Span]) -> float | None:
    """Return the seconds from the first start to the last end of the spans; None where there are none."""
    if not found:
        return None
    return max(timeline.until(span) for span in found) - min(span.start for span in found)


def waited(timeline: Timeline, *tasks: str) -> float | None:
    """Return the seconds that the first tries of the tasks waited for a slot, at the median; None where none did."""
    seconds = [timeline.until(span) - span.start for span in spans(timeline, "waiting", *tasks) if span.try_number == 1]
    return median(seconds) if seconds else None


def workers(found: Iterable[Span]) -> set[str]:
    """Return the workers of the spans."""
    return {span.worker for span in found if span.worker}


def mark(timeline: Timeline, beginning: str) -> Mark | None:
    """Return the first mark that begins so."""
    return next((mark for mark in timeline.marks if mark.what.startswith(beginning)), None)


def told(seconds: float | None) -> str:
    """Return seconds as a sentence has them."""
    return "never" if seconds is None else f"{seconds:.1f} s"


def ratio(one: float | None, other: float | None) -> float | None:
    """Return how often the other fits into the one; None where that is not known."""
    return round(one / other, 2) if one is not None and other else None


def rounded(seconds: float | None) -> float | None:
    """Return seconds as they are printed."""
    return None if seconds is None else round(seconds, 2)
