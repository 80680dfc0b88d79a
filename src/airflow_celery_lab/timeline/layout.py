"""Where everything of a timeline's drawing goes, from top to bottom. The unit is the height of a lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from airflow_celery_lab.configuration import names
from airflow_celery_lab.timeline import lanes
from airflow_celery_lab.timeline.spans import UNKNOWN, Mark, Span, Timeline

#: Of a row of labels above the lanes, of a heading, and of the gap before the next one.
LABEL, HEADING, GAP = 0.7, 1.0, 0.3
#: Of a bar, and of the wait before it, at the bar's lower edge.
BAR, WAIT = 0.7, 0.12
#: Of what has no slot: a bar, and all bars below one heading at most.
SLOTLESS, MOST = 0.5, 5.0
#: Rows of labels at most; a mark that finds no room there has its words where the pointer is.
LABELS = 6
#: Part of the time axis that a letter of a label takes in a window of 600 pixels, and from where on a label stands left of its mark.
LETTER, LATE = 1 / 70, 0.6


class Group(NamedTuple):
    """Lanes below one heading."""

    heading: str
    top: float  #: of the heading
    bottom: float
    slots: int  #: of a worker, a lane each; 0 for what has no slots

    def middle(self, slot: int) -> float:
        """Return the middle of the lane of a slot."""
        return self.top + HEADING + slot - 0.5


class Place(NamedTuple):
    """Where a span goes."""

    middle: float
    height: float


class Layout(NamedTuple):
    """Where everything goes."""

    labels: Sequence[int | None]  #: for each mark the row of its label; None for one that has no room
    groups: Sequence[Group]
    places: dict[Span, Place]

    @property
    def bottom(self) -> float:
        """The end of the drawing."""
        return self.groups[-1].bottom if self.groups else HEADING


def layout(timeline: Timeline) -> Layout:
    """Return where everything of a timeline goes: workers by name, a lane a slot, then what has no slot."""
    labels = label_rows(timeline)
    groups: list[Group] = []
    places: dict[Span, Place] = {}
    top = LABEL * (1 + max((row for row in labels if row is not None), default=-1))

    def add(heading: str, height: float, slots: int = 0) -> Group:
        start = groups[-1].bottom + GAP if groups else top
        groups.append(Group(heading, start, start + HEADING + height, slots))
        return groups[-1]

    of_workers = {worker: add(_heading(timeline, worker), slots, slots) for worker, slots in _slots(timeline).items()}
    for span in timeline.spans:
        if span.slot is not None:
            middle = of_workers[span.worker or UNKNOWN].middle(span.slot)
            places[span] = Place(middle, BAR) if span.kind == "running" else Place(middle + (BAR + WAIT) / 2, WAIT)
    places.update(_without_slots(timeline, "deferred", timeline.of_kind("deferred"), add))
    untaken = [span for span in timeline.of_kind("waiting") if span.slot is None]
    for queue in sorted({span.queue or "" for span in untaken}):
        own = [span for span in untaken if (span.queue or "") == queue]
        places.update(_without_slots(timeline, f"waiting on {queue} · {len(own)} task{'s' if len(own) > 1 else ''}", own, add))
    return Layout(labels, groups, places)


def label_rows(timeline: Timeline) -> list[int | None]:
    """Return the row in which each mark's label has room beside the others, None where there is no such row."""
    length = (timeline.end - timeline.start) or 1.0

    def room(mark: Mark) -> tuple[float, float]:
        width = (len(mark.what) + 3) * LETTER * length
        return (mark.when - width, mark.when) if is_late(timeline, mark) else (mark.when, mark.when + width)

    return [row if row < LABELS else None for row in lanes.assign([room(mark) for mark in timeline.marks])]


def is_late(timeline: Timeline, mark: Mark) -> bool:
    """Return whether a mark's label stands left of it, as there is no room at its right."""
    return mark.when - timeline.start > LATE * (timeline.end - timeline.start)


def _slots(timeline: Timeline) -> dict[str, int]:
    """Return the slots of each worker: those that it is known to have, and those in which something ran."""
    slots = dict(timeline.slots)
    for span in timeline.of_kind("running"):
        worker = span.worker or UNKNOWN
        slots[worker] = max(slots.get(worker, 1), span.slot or 1)
    return {worker: slots[worker] for worker in sorted(slots, key=names.in_order)}


def _heading(timeline: Timeline, worker: str) -> str:
    """Return the worker's name, with the number of its slots where that is known: those that were never used have no bar."""
    slots = timeline.slots.get(worker)
    return worker if slots is None else f"{worker} · {slots} slot{'s' if slots > 1 else ''}"


def _without_slots(timeline: Timeline, heading: str, spans: Sequence[Span], add: Callable[[str, float], Group]) -> dict[Span, Place]:
    """Place spans that have no slots beside each other, thinner where there are many."""
    if not spans:
        return {}
    found = lanes.assign([(span.start, timeline.until(span)) for span in spans])
    height = min(SLOTLESS, MOST / (max(found) + 1))
    group = add(heading, height * (max(found) + 1))
    return {
        span: Place(group.top + HEADING + height * (lane + 0.5), height * 0.85)  # A gap between two of them.
        for span, lane in zip(spans, found, strict=True)
    }
