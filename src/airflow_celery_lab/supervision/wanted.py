"""The processes that are wanted, and the difference to those that run. Data and rules; nothing is started here."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from airflow_celery_lab.configuration import names, procfile, services
from airflow_celery_lab.configuration.links import PROCESS as LINKS
from airflow_celery_lab.configuration.procfile import Line, Processes
from airflow_celery_lab.configuration.settings import Settings
from airflow_celery_lab.launcher.registry import Record


@dataclass(frozen=True)
class Plan:
    """What has to happen to make the running processes the wanted ones; falsy when that is nothing."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def plan(current: Processes, target: Processes, stale: Collection[str] = ()) -> Plan:
    """Return the difference, each part in the target's (or current) order.

    What is `stale` was started with other variables in `.env`, and counts as changed.
    """
    return Plan(
        added=tuple(name for name in target if name not in current),
        changed=tuple(name for name in target if name in current and (current[name] != target[name] or name in stale)),
        removed=tuple(name for name in current if name not in target),
    )


def stale(records: Mapping[str, Record], settings: Settings) -> list[str]:
    """Return the names of the processes that were started with other variables in `.env` than `settings` has."""
    return [name for name, record in records.items() if record.dotenv != settings.dotenv_print]


def outgrown(records: Mapping[str, Record], slots: int, is_set: bool) -> list[str]:  # noqa: FBT001  # a fact, not a switch
    """Return the names of the schedulers that run fewer tasks at a time than there will be `slots`.

    Where the user has set how many (`is_set`), they stay as they are.
    """
    return [name for name, record in records.items() if 0 < record.parallelism < slots and not is_set]


def scaled(current: Processes, lines: Sequence[Line], counts: Mapping[str, int]) -> Processes:
    """Return `current` with so many instances of the Procfile's lines as `counts` says, all others as they are.

    Raises:
        ProcfileError: the Procfile has no such line, or two processes would have one name.

    """
    for name, count in counts.items():
        current = _scaled(current, lines, name, count)
    return current


def count(current: Processes, lines: Sequence[Line], name: str) -> int:
    """Return how many instances of the Procfile's line `name` there are in `current`."""
    known = {line.name for line in lines}
    return sum(_is_instance(other, name, known) for other in current)


def beside(current: Processes, target: Processes) -> Processes:
    """Return `target` with what commands of the lab have started beside the Procfile: the process that carries links."""
    return {**target, **{name: command for name, command in current.items() if name == LINKS and name not in target}}


def stop_order(processes: Processes) -> list[list[str]]:
    """Return the names of those that stop first, then of those that others need while they stop."""
    found = procfile.services_of(processes)
    return [[name for name, service in found.items() if service.stage == stage] for stage in services.STAGES]


def _scaled(current: Processes, lines: Sequence[Line], name: str, count: int) -> Processes:
    line = procfile.require_line(lines, name)
    name = line.name
    instances = procfile.instances([line], {name: count})
    known = {line.name for line in lines}
    before = list(itertools.takewhile(lambda other: not _is_instance(other, name, known), current))
    others = {other: command for other, command in current.items() if not _is_instance(other, name, known)}
    # The instances stand where the line stood.
    result: dict[str, str] = {other: others.pop(other) for other in before}
    for part in (instances, others):
        for other, command in part.items():
            procfile.add(result, other, command)
    return result


def _is_instance(name: str, line: str, lines: set[str]) -> bool:
    base, _, number = names.line_of(name).rpartition("-")
    same = names.machine_of(name) == names.machine_of(line) and base == names.line_of(line)
    return name == line or (same and number.isdecimal() and name not in lines)
