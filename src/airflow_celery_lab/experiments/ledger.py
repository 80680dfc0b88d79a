"""Compares what tasks wrote down themselves with what Airflow says of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    task: int
    try_number: int
    event: str  #: start or finish
    worker: str
    time: float  #: seconds since the epoch


@dataclass(frozen=True)
class Balance:
    """What the comparison has found."""

    tasks: int  #: that there should be
    lost: Mapping[int, str]  #: what is wrong with each task that did not succeed exactly once
    repeated: int  #: tasks that started more than once, as at-least-once delivery allows


def read(path: Path) -> list[Entry]:
    """Return the entries of a ledger; a last line that a crash cut short is left out."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        entries.append(Entry(data["task"], data["try"], data["event"], data["worker"], data["time"]))
    return entries


def again(entries: Sequence[Entry], moment: float, concerned: Collection[int] | None = None) -> list[float]:
    """Return the seconds from `moment` (since the epoch) until each task that was cut off then started again.

    Those are `concerned`, or all that had started before and start once more: also one that had written its finish, but had
    not told Airflow yet.
    """
    started = {entry.task for entry in entries if entry.event == "start" and entry.time <= moment}
    seconds: dict[int, float] = {}
    for entry in sorted(entries, key=lambda entry: entry.time):
        if entry.event == "start" and entry.time > moment and entry.task in (started if concerned is None else concerned):
            seconds.setdefault(entry.task, entry.time - moment)
    return list(seconds.values())


def balance(tasks: int, entries: Iterable[Entry], states: Mapping[int, str | None], successes: Mapping[int, int]) -> Balance:
    """Compare the ledger of `tasks` tasks with the state of each, and with how many of its tries succeeded, in Airflow."""
    starts: Counter[int] = Counter()
    finished: set[int] = set()
    for entry in entries:
        if entry.event == "start":
            starts[entry.task] += 1
        else:
            finished.add(entry.task)
    wrong = {
        task: _wrong(states.get(task), successes.get(task, 0), known=task in states, finished=task in finished) for task in range(tasks)
    }
    return Balance(
        tasks=tasks,
        lost={task: reason for task, reason in wrong.items() if reason},
        repeated=sum(count > 1 for count in starts.values()),
    )


def _wrong(state: str | None, successes: int, *, known: bool, finished: bool) -> str | None:
    if not known:
        return "Airflow does not know it"
    if state != "success":
        return f"Airflow says {state}"
    if successes != 1:
        return f"Airflow has {successes} successful tries of it"
    return None if finished else "Airflow says success, the ledger has no finish"


def successful_tries(tries: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tries of one task instance Airflow records as a success."""
    return sum(entry["state"] == "success" for entry in tries)
