"""Who scales which line of the Procfile, as autoscalers write it down while they live.

Each holds a lock on a file beside its note for as long as it lives, as processes do with their records.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from airflow_celery_lab.command import typed
from airflow_celery_lab.configuration import files
from airflow_celery_lab.configuration.credentials import make_private_folder
from airflow_celery_lab.configuration.procfile import Line, Processes
from airflow_celery_lab.configuration.ranges import Range
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.errors import AlreadyRunningError, ProcfileError
from airflow_celery_lab.launcher import registry
from airflow_celery_lab.supervision import wanted


class Autoscaled(NamedTuple):
    """A line of the Procfile that has an autoscaler."""

    line: str
    least: int
    most: int
    wanted: int  #: workers
    actual: int  #: workers, with one that ends when it has nothing left to do
    why: str  #: so many are wanted
    draining: str  #: name of the worker that takes no new tasks, "" for none
    process: str  #: the autoscaler's name in the lab, "" where it runs in a terminal
    pid: int  #: of the autoscaler

    @property
    def range(self) -> Range:
        """How often the line may run."""
        return Range(self.line, self.least, self.most)


class Claim:
    """An autoscaler's hold on one line."""

    def __init__(self, state: State, note: Autoscaled) -> None:
        """Take the line.

        Raises:
            AlreadyRunningError: a living autoscaler has it.
            StateFolderError: it cannot be written down.

        """
        make_private_folder(state.autoscaling)
        self._path = state.autoscaled(note.line)
        self._lock: IO[str] = self._path.with_suffix(".lock").open("a")
        if not registry.try_lock(self._lock, fcntl.LOCK_EX):
            self._lock.close()
            raise AlreadyRunningError(f"{note.line} has an autoscaler already{_owner(state, note.line)}.", process=note.line)
        #: Name of the worker that an autoscaler was draining when it was killed, "" for none.
        self.left = next((old.draining for old in _notes([self._path])), "")
        self.note = note
        self._write()

    def update(self, **changes: object) -> None:
        """Change fields of the note; others read it from now on."""
        changed = self.note._replace(**changes)  # type: ignore[arg-type]  # typed by Autoscaled itself
        if changed != self.note:
            self.note = changed
            self._write()

    def release(self) -> None:
        """Give the line back."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._lock.close()

    def _write(self) -> None:
        with suppress(OSError):  # As a process's record.
            files.write(self._path, json.dumps(self.note._asdict()))


def read(state: State) -> list[Autoscaled]:
    """Return what the living autoscalers of a lab say."""
    return list(_notes(path for path in sorted(state.autoscaling.glob("*.json")) if registry.is_held(path.with_suffix(".lock"))))


def kept(notes: Iterable[Autoscaled], current: Processes, lines: Sequence[Line]) -> dict[str, int]:
    """Return how often each line runs whose autoscaler goes on when `lines` are applied to what runs."""
    services = {line.name: line.service for line in lines}
    counts = {}
    for note in notes:
        # One that the Procfile names no more ends with this, and so does its say.
        goes_on = not note.process or (note.process in services and note.line in {one.line for one in services[note.process].ranges})
        if goes_on and note.line in services:
            counts[note.line] = wanted.count(current, lines, note.line)
    return counts


def widest(target: Processes, lines: Sequence[Line], notes: Iterable[Autoscaled], services: Iterable[tuple[Range, ...]]) -> Processes:
    """Return `target` with each autoscaled line as often as it may ever run: servers and scheduler are started for that."""
    known = {line.name for line in lines}
    asked = [*(note.range for note in notes), *(one for those in services for one in those)]
    counts = {one.line: max(one.most, wanted.count(target, lines, one.line)) for one in asked if one.line in known}
    return wanted.scaled(target, lines, counts)


def refuse(counts: Mapping[str, int], notes: Iterable[Autoscaled], lines: Iterable[Line] = ()) -> None:
    """Do nothing when none of the lines that are counted has an autoscaler: a living one, or one that `lines` will start.

    Raises:
        ProcfileError: one has.

    """
    for note in notes:
        if note.line in counts:
            raise ProcfileError(
                f"{note.line} has an autoscaler, which runs {note.least} to {note.most} of it; {_advice(note.process, note.pid)}.",
                process=note.line,
            )
    for line in lines:
        for one in line.service.ranges:
            if one.line in counts:
                raise ProcfileError(
                    f"{one.line} has an autoscaler in the Procfile, {line.name}, which runs {one.least} to {one.most} of it; "
                    f"change the range there, or take {one.line} out of it.",
                    process=one.line,
                )


def _notes(paths: Iterable[Path]) -> Iterator[Autoscaled]:
    for path in paths:
        with suppress(OSError, ValueError, TypeError):  # It may be gone by now, or damaged.
            yield Autoscaled(**json.loads(path.read_text(encoding="utf-8")))


def _advice(process: str, pid: int) -> str:
    if process:
        return f"change the range in the Procfile and run `{typed()} apply`, or end it with `{typed()} stop {process}` first"
    return f"end it first, with Ctrl-C where it runs, or with `kill {pid}`"


def _owner(state: State, line: str) -> str:
    for note in read(state):
        if note.line == line:
            return f" (pid {note.pid}); {_advice(note.process, note.pid)}"
    return "; end it first"
