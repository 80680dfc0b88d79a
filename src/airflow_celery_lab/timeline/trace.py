"""A timeline in Chrome's trace format, which Perfetto (ui.perfetto.dev) and chrome://tracing open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_celery_lab.configuration import names
from airflow_celery_lab.timeline import lanes
from airflow_celery_lab.timeline.spans import UNKNOWN, Span, Timeline

#: The process that stands for the run as a whole: what was done to the lab, and how many tasks wait.
RUN = 1
DEFERRED = "deferred"


def chrome(timeline: Timeline) -> dict[str, Any]:
    """Return the trace: a process for each worker with a thread a slot, times in microseconds since the run's start."""
    workers = sorted({*timeline.slots, *(span.worker or UNKNOWN for span in timeline.of_kind("running"))}, key=names.in_order)
    pids = {name: pid for pid, name in enumerate([*workers, DEFERRED], start=RUN + 1)}
    deferred = timeline.of_kind("deferred")
    places = lanes.assign([(span.start, timeline.until(span)) for span in deferred])
    tracks = {span: (pids[span.worker or UNKNOWN], span.slot or 0) for span in timeline.of_kind("running")}
    tracks.update({span: (pids[DEFERRED], place + 1) for span, place in zip(deferred, places, strict=True)})
    events = [
        *_names(timeline, pids, set(tracks.values())),
        *(_slice(timeline, span, *track) for span, track in tracks.items()),
        *_retries(timeline, tracks),
        *(
            {
                "ph": "i",
                "s": "g",
                "name": mark.what,
                "cat": "lab",
                "ts": _micro(timeline, mark.when),
                "pid": RUN,
                "tid": 0,
                "args": {"detail": mark.detail},
            }
            for mark in timeline.marks
        ),
        *_depths(timeline),
    ]
    return {"displayTimeUnit": "ms", "otherData": {"dag_id": timeline.dag_id, "run_id": timeline.run_id}, "traceEvents": events}


def _names(timeline: Timeline, pids: Mapping[str, int], tracks: set[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for name, pid in {f"{timeline.dag_id} {timeline.run_id}": RUN, **pids}.items():
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "tid": 0, "args": {"sort_index": pid}}
    idle = {(pids[worker], slot) for worker, slots in timeline.slots.items() for slot in range(1, slots + 1)}
    for pid, tid in sorted(tracks | idle):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": f"slot {tid}"}}


def _slice(timeline: Timeline, span: Span, pid: int, tid: int) -> dict[str, Any]:
    start = _micro(timeline, span.start)
    return {
        "ph": "X",
        "name": span.name,
        "cat": span.kind,
        "ts": start,
        "dur": _micro(timeline, timeline.until(span)) - start,
        "pid": pid,
        "tid": tid,
        "args": {"try": span.try_number, "state": span.state, "queue": span.queue, "worker": span.worker},
    }


def _retries(timeline: Timeline, tracks: Mapping[Span, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Yield an arrow from the end of each try to the beginning of the next one."""
    for number, (before, after) in enumerate(timeline.retries(), start=1):
        # An arrow belongs to the slice that its moment lies in: just before its end.
        ends = max(_micro(timeline, timeline.until(before)) - 1, _micro(timeline, before.start))
        for phase, span, when in (("s", before, ends), ("f", after, _micro(timeline, after.start))):
            pid, tid = tracks[span]
            yield {"ph": phase, "bp": "e", "id": number, "name": "retry", "cat": "retry", "ts": when, "pid": pid, "tid": tid}


def _depths(timeline: Timeline) -> Iterator[dict[str, Any]]:
    """Yield how many tasks wait for a worker of each queue, at each moment when that changes."""
    for queue, changes in depths(timeline).items():
        for when, depth in changes:
            yield {"ph": "C", "name": f"waiting on {queue}", "ts": _micro(timeline, when), "pid": RUN, "tid": 0, "args": {"tasks": depth}}


def depths(timeline: Timeline) -> dict[str, list[tuple[float, int]]]:
    """Return for each queue the moments (seconds since the epoch) at which the number of waiting tasks changes, and that number."""
    steps: dict[str, dict[float, int]] = defaultdict(lambda: defaultdict(int))
    for span in timeline.of_kind("waiting"):
        steps[span.queue or ""][span.start] += 1
        if span.end is not None:
            steps[span.queue or ""][span.end] -= 1
    found: dict[str, list[tuple[float, int]]] = {}
    for queue, changes in steps.items():
        depth = 0
        for when in sorted(changes):
            depth += changes[when]
            found.setdefault(queue, []).append((when, depth))
    return found


def _micro(timeline: Timeline, when: float) -> int:
    return round((when - timeline.start) * 1_000_000)
