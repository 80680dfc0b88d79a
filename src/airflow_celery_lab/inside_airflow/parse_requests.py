"""Which DAG files Airflow was asked to parse, and has not yet parsed as they were saved. Data and rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

#: Seconds after which a request is repeated for the first time, and longest pause, after which it is no longer: each is twice the one before.
FIRST, LAST = 1.0, 32.0


class _Request(NamedTuple):
    since: float  #: when the change was seen
    again: float  #: when it is to be asked for
    pause: float  #: after that


class ParseRequests:
    """Repeats a request until the file is parsed: Airflow forgets one for a file that it parses at that moment, in its former state.

    A file that is broken, or has no DAG, leaves no trace of when it was parsed; so there is an end to it. Times are seconds since the epoch.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Request] = {}

    @property
    def names(self) -> set[str]:
        """The files that are asked for."""
        return set(self._open)

    def add(self, changed: Collection[str], new: Collection[str], now: float) -> None:
        """Take in that files have changed; of those that are `new` Airflow most likely knows by itself."""
        self._open |= {name: _Request(now, now + FIRST if name in new else now, FIRST) for name in changed}

    def is_due(self, now: float) -> bool:
        """Return whether `take` would return a file."""
        return any(request.again <= now for request in self._open.values())

    def take(self, begun: Mapping[str, float], now: float) -> set[str]:
        """Return the files to ask for now; `begun` says when the last parsing of a file began, where that is known."""
        self._open = {name: request for name, request in self._open.items() if begun.get(name, 0.0) < request.since}
        due = {name for name, request in self._open.items() if request.again <= now}
        for name in due:
            since, _, pause = self._open.pop(name)
            if pause <= LAST:
                self._open[name] = _Request(since, now + pause, 2 * pause)
        return due
