"""Which lane of a drawing each interval gets. Celery does not record which slot of a worker ran a task; any free one serves."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def assign(intervals: Sequence[tuple[float, float]]) -> list[int]:
    """Return the lane of each interval (begin and end in one unit), from 0: the lowest one that is free when it begins.

    So there are no more lanes than intervals at one moment. One that begins when another ends may follow it in its lane.
    """
    lanes = [0] * len(intervals)
    free: list[int] = []
    taken: list[tuple[float, int]] = []  # By the end: a heap.
    for index in sorted(range(len(intervals)), key=lambda index: (*intervals[index], index)):
        begin, end = intervals[index]
        while taken and taken[0][0] <= begin:
            heapq.heappush(free, heapq.heappop(taken)[1])
        lanes[index] = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (end, lanes[index]))
    return lanes
