"""Compares what tasks wrote down themselves with what Airflow says of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    """What the comparison has found; the numbers are tasks."""

    tasks: int
    succeeded: int  #: exactly once, as Airflow sees it
    missing: int  #: Airflow says success, but the ledger has no finish
    hanging: int  #: neither success nor failure
    failed: int
    repeated: int  #: started more than once, as at-least-once delivery allows

    @property
    def lost(self) -> int:
        """Tasks whose work did not come to a good end."""
        return self.missing + self.hanging + self.failed


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


def balance(entries: Iterable[Entry], states: Mapping[int, str | None], successes: Mapping[int, int]) -> Balance:
    """Compare the ledger with the state of each task, and with how many of its tries succeeded, in Airflow."""
    starts: Counter[int] = Counter()
    finished: set[int] = set()
    for entry in entries:
        if entry.event == "start":
            starts[entry.task] += 1
        else:
            finished.add(entry.task)
    good = [task for task, state in states.items() if state == "success"]
    return Balance(
        tasks=len(states),
        succeeded=sum(successes.get(task, 0) == 1 for task in good),
        missing=sum(task not in finished for task in good),
        hanging=sum(state not in ("success", "failed", "upstream_failed") for state in states.values()),
        failed=sum(state in ("failed", "upstream_failed") for state in states.values()),
        repeated=sum(count > 1 for count in starts.values()),
    )


def successful_tries(tries: Sequence[Mapping[str, Any]]) -> int:
    """Return how many tries of one task instance Airflow records as a success."""
    return sum(entry["state"] == "success" for entry in tries)
