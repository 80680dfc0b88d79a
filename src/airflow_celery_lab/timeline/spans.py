"""What a run's tasks did and when, as spans of time: from what Airflow and the lab have recorded. Data from data; nothing is asked here.

A try of a task waits for a worker, runs, and may give its slot back for a while (deferred) and wait and run again. Airflow keeps
the last wait of a try, and from 3.2 on an event for each time that a worker took the task or gave it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise, zip_longest
from typing import Any, Literal, NamedTuple

from airflow_celery_lab.cluster.journal import Act
from airflow_celery_lab.cluster.moments import moment
from airflow_celery_lab.cluster.reasons import name_of
from airflow_celery_lab.cluster.waits import WAITING, Key, key
from airflow_celery_lab.timeline import lanes

Kind = Literal["waiting", "running", "deferred"]
#: States of a run that has ended.
FINAL = ("success", "failed")
#: Airflow's event for a task that a worker took, and those for one that gave its slot back.
TAKEN, GIVEN_BACK = "running", ("deferred", "up_for_reschedule")
#: Events for a try that ended with its worker, and for a message that was sent again; the executor's, and Airflow's own.
LOST, RESENT = ("worker lost", "heartbeat timeout"), "message lost"


#: Those of the lab's acts that break something.
FAULTS = ("kill", "pause", "slow", "cut", "experiment")
#: States of a try that has not ended, whatever end an earlier try or turn has left.
UNFINISHED = frozenset({*WAITING, "running", "restarting", *GIVEN_BACK})
#: A worker whose name Airflow does not have.
UNKNOWN = "?"
#: Airflow's word for the id of any DAG, and of any run.
EVERY = "~"
#: States of a task for which no worker was ever asked.
NEVER_SENT = ("upstream_failed", "skipped", "removed")


@dataclass(frozen=True)
class Span:
    """A stretch of one try of a task. Times are seconds since the epoch."""

    kind: Kind
    name: str  #: the task's id, with its index where it is mapped
    task_id: str
    map_index: int  #: -1 for a task that is not mapped
    try_number: int
    queue: str | None
    worker: str | None  #: that ran it, or whose slot it waited for or gave back; None while none has had it
    #: Of the worker, from 1, for what runs or waits for that: the lowest free one, as Celery does not record which it was.
    slot: int | None
    start: float
    end: float | None  #: None while it goes on
    state: str  #: how it ended or goes on: success, failed, lost, running, queued, deferred and others of Airflow's
    run_id: str = ""  #: of its DAG run, where a timeline has several


@dataclass(frozen=True)
class Mark:
    """Something that happened to the cluster at one moment (seconds since the epoch)."""

    when: float
    what: str  #: in a few words, such as `kill worker-default`
    detail: str = ""
    fault: bool = False  #: it breaks something; other marks are changes


@dataclass(frozen=True)
class Timeline:
    """One DAG run; or all of some time, whose ids are Airflow's word for all of them (EVERY)."""

    dag_id: str
    run_id: str
    state: str
    start: float  #: seconds since the epoch
    end: float  #: of the run; the moment of the look while it goes on
    spans: Sequence[Span]
    marks: Sequence[Mark] = ()
    slots: Mapping[str, int] = field(default_factory=dict)  #: of workers that lived meanwhile, as far as that is known

    def of_kind(self, kind: Kind) -> list[Span]:
        """Return the spans of one kind, in the order in which they began."""
        return [span for span in self.spans if span.kind == kind]

    def until(self, span: Span) -> float:
        """Return the end of a span, of one that goes on the timeline's own."""
        return self.end if span.end is None else span.end

    def retries(self) -> list[tuple[Span, Span]]:
        """Return each last stay of a try in a slot, with the first one of the task's next try."""
        by_task: dict[tuple[str, str], list[Span]] = {}
        for span in self.of_kind("running"):
            by_task.setdefault((span.run_id, span.name), []).append(span)
        pairs = (pair for own in by_task.values() for pair in pairwise(sorted(own, key=lambda span: (span.try_number, span.start))))
        return [(before, after) for before, after in pairs if before.try_number != after.try_number]

    def as_json(self) -> dict[str, Any]:
        """Return what `lab timeline --json` prints."""
        return asdict(self)


class Recording(NamedTuple):
    """What is known of one run, as Airflow's REST API and the lab's journal give it."""

    run: Mapping[str, Any]
    tries: Sequence[Mapping[str, Any]]  #: each try of each task instance
    events: Sequence[Mapping[str, Any]]  #: of the kinds above, the oldest first
    acts: Sequence[Act]  #: what was done to the lab
    slots: Mapping[str, int]  #: of the workers that lived meanwhile
    now: float  #: seconds since the epoch


def timeline(recorded: Recording) -> Timeline:
    """Return the timeline of a run."""
    found = list(_of_tries(recorded.tries, recorded.events))
    run, now = recorded.run, recorded.now
    over = run["state"] in FINAL
    start = min([moment(run["start_date"]) or now, *(span.start for span in found)])
    end = max([moment(run["end_date"]) or now, *(span.end or 0.0 for span in found)]) if over else now
    # A run that was ended by hand may leave tasks that seem to go on.
    closed = [replace(span, end=max(end, span.start)) if over and span.end is None else span for span in found]
    closed.sort(key=lambda span: (span.start, span.name, span.try_number))
    marks = sorted([*_of_acts(recorded.acts, start, end), *_of_events(recorded.events)], key=lambda mark: mark.when)
    return Timeline(run["dag_id"], run["dag_run_id"], run["state"], start, end, _in_slots(closed, end), marks, recorded.slots)


class Window(NamedTuple):
    """What is known of some time, whichever run it belongs to: as `Recording`, in Airflow's own words for a row of its database."""

    tries: Sequence[Mapping[str, Any]]  #: with `dag_id` and `run_id`
    events: Sequence[Mapping[str, Any]]
    acts: Sequence[Act]
    slots: Mapping[str, int]
    start: float  #: seconds since the epoch
    end: float


def recent(window: Window) -> Timeline:
    """Return the timeline of all runs in a window of time; a task's name begins with its DAG's there, as in Flower."""
    runs: dict[tuple[str, str], tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]] = {}
    for place, rows in enumerate((window.tries, window.events)):
        for row in rows:
            runs.setdefault((row["dag_id"], row["run_id"]), ([], []))[place].append(row)
    found = [
        replace(span, name=f"{dag_id}.{span.name}", task_id=f"{dag_id}.{span.task_id}", run_id=run_id)
        for (dag_id, run_id), (tries, events) in runs.items()
        for span in _of_tries(tries, events)
        if span.end is None or span.end > window.start
    ]
    found.sort(key=lambda span: (span.start, span.run_id, span.name, span.try_number))
    marks = [*_of_acts(window.acts, window.start, window.end), *_of_events(window.events)]
    marks = sorted((mark for mark in marks if mark.when >= window.start), key=lambda mark: mark.when)
    return Timeline(EVERY, EVERY, "running", window.start, window.end, _in_slots(found, window.end), marks, window.slots)


class _Change(NamedTuple):
    """What a try turns to at one moment."""

    when: float
    to: Kind | None  #: None: it ends
    worker: str | None = None
    event: str = ""  #: that says so, which becomes the state of what ends with it


def _of_tries(tries: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]]) -> Iterator[Span]:
    """Yield the spans of tries of one run, with the events of that run."""
    by_try: dict[Key, list[Mapping[str, Any]]] = {}
    for event in events:
        by_try.setdefault(key(event), []).append(event)
    for row in tries:
        yield from _of_try(row, by_try.get(key(row), []))


def _of_try(row: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterator[Span]:
    lost = row["state"] != "success" and any(event["event"] in LOST for event in events)
    ending = "lost" if lost else str(row["state"])
    worker: str | None = None
    changes = sorted(_changes(row, events), key=lambda change: change.when)
    for change, after in zip_longest(changes, changes[1:]):
        if change.to is None:
            return
        worker = change.worker or worker
        if after is None or after.when > change.when or change.to == "running":
            yield Span(
                kind=change.to,
                name=name_of(row),
                task_id=row["task_id"],
                map_index=row["map_index"],
                try_number=row["try_number"],
                queue=row["queue"],
                worker=(after.worker if after else None) if change.to == "waiting" else worker,
                slot=None,
                start=change.when,
                end=after.when if after else None,
                state=ending if after is None or after.to is None else (change if change.to == "deferred" else after).event,
            )


def _changes(row: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Iterator[_Change]:
    """Yield what is known of a try, in any order."""
    able = moment(row["scheduled_when"]) or moment(row["queued_when"])
    start, end, worker = moment(row["start_date"]), moment(row["end_date"]), row["hostname"] or None
    taken = start is not None and worker is not None and row["state"] not in WAITING
    if end is not None and row["state"] not in UNFINISHED:
        yield _Change(end, None)
    if any(event["event"] in GIVEN_BACK for event in events):
        for event in events:
            if event["event"] in {TAKEN, *GIVEN_BACK}:
                kind: Kind = "running" if event["event"] == TAKEN else "deferred"
                yield _Change(moment(event["when"]) or 0.0, kind, _host(event) or worker or UNKNOWN, event["event"])
    elif taken and start is not None:
        # Without events, as in Airflow 3.1, a later `able` tells that it gave its slot back, and nothing when it ran again.
        again = able is not None and able > start
        yield _Change(start, "deferred" if again or row["state"] in GIVEN_BACK else "running", worker, TAKEN)
        if again:
            return
    elif row["state"] in NEVER_SENT:
        return
    if able is not None:
        yield _Change(able, "waiting", event="scheduled")


def _host(event: Mapping[str, Any]) -> str | None:
    try:
        return str(json.loads(event["extra"])["host_name"])
    except (TypeError, ValueError, LookupError):
        return None


def _of_acts(acts: Iterable[Act], start: float, end: float) -> list[Mark]:
    return [
        Mark(act.when, f"{act.what} {', '.join(act.names)}".strip(), fault=act.what in FAULTS) for act in acts if start <= act.when <= end
    ]


def _of_events(events: Iterable[Mapping[str, Any]]) -> list[Mark]:
    """Return one mark for what the executor found at one moment, however many tasks it concerned."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for event in events:
        if event["event"] in {*LOST, RESENT}:
            found.setdefault((event["event"], str(event["extra"])), []).append(event)
    return [
        Mark(moment(those[0]["when"]) or 0.0, f"{what} ({len(those)} task{'s' if len(those) > 1 else ''})", detail, fault=True)
        for (what, detail), those in found.items()
    ]


def _in_slots(spans: Sequence[Span], end: float) -> list[Span]:
    """Return the spans with the slots of those that run, and of the waits before them."""
    slots: dict[tuple[str, str, int, float], int] = {}
    running = [span for span in spans if span.kind == "running"]
    for worker in {span.worker for span in running}:
        own = [span for span in running if span.worker == worker]
        for span, lane in zip(own, lanes.assign([(span.start, end if span.end is None else span.end) for span in own]), strict=True):
            slots[span.run_id, span.name, span.try_number, span.start] = lane + 1
    began = {"running": lambda span: span.start, "waiting": lambda span: span.end}
    return [
        replace(span, slot=slots.get((span.run_id, span.name, span.try_number, began[span.kind](span)))) if span.kind in began else span
        for span in spans
    ]
