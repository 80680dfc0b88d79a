"""The logs of a run's tasks, as Airflow keeps and masks them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from airflow_celery_lab.cluster import reasons, runs
from airflow_celery_lab.cluster.rest import AirflowApi
from airflow_celery_lab.configuration.suggestion import suggest, there_is
from airflow_celery_lab.errors import AirflowError, UnknownTaskError

#: Seconds between two looks at a log that is followed.
INTERVAL = 0.5


class Line(NamedTuple):
    """One event of a log."""

    task: str  #: with its index where it is mapped
    try_number: int
    item: Any  #: as Airflow's REST API gives it: a dictionary with `event`, `timestamp`, `level` and others, or a text


def chosen(instances: Sequence[Mapping[str, Any]], task: str | None, map_index: int | None) -> list[Mapping[str, Any]]:
    """Return the task instances that are meant, all where no task is named; `task` may have its index, as in `work[3]`.

    Raises:
        UnknownTaskError: there is no such task, or it is mapped and no index is named.

    """
    listed = sorted(instances, key=lambda instance: (instance["start_date"] or "~", instance["task_id"], instance["map_index"]))
    if task is None:
        return listed
    if match := re.fullmatch(r"(.+)\[(\d+)\]", task):
        task, map_index = match[1], int(match[2])
    same = [instance for instance in listed if instance["task_id"] == task]
    if not same:
        known = list(dict.fromkeys(str(instance["task_id"]) for instance in listed))
        raise UnknownTaskError(f"there is no task {task!r} in the run; {suggest(task, known, there_is(known))}")
    indices = sorted(instance["map_index"] for instance in same)
    if map_index is None and len(same) > 1:
        raise UnknownTaskError(f"the task {task!r} is mapped: name one of {_ranges(indices)}, such as '{task}[{indices[0]}]'.")
    found = [instance for instance in same if map_index is None or instance["map_index"] == map_index]
    if not found:
        there = f"its indices are {_ranges(indices)}" if indices[0] >= 0 else "it is not mapped"
        raise UnknownTaskError(f"there is no {task}[{map_index}] in the run; {there}.")
    return found


def read(
    api: AirflowApi, dags: Path, dag_id: str, task: str | None, run_id: str | None, try_number: int | None, map_index: int | None
) -> list[Line]:
    """Return the log of a task, or of all tasks of a run one after the other; of the newest run and the newest try by default.

    Raises:
        UnknownDagError, UnknownRunError, UnknownTaskError: there is none.

    """
    run = runs.find(api, dags, dag_id, run_id)["dag_run_id"]
    found = chosen(api.task_instances(dag_id, run), task, map_index)
    return [line for instance in found for line in _of(api, instance, _try(instance, try_number))]


def follow(
    api: AirflowApi, dags: Path, dag_id: str, task: str | None, run_id: str | None, try_number: int | None, map_index: int | None
) -> Iterator[Line]:
    """Yield the log of a task, or of all tasks of a run, as it grows, until they have ended; later tries too, if none is named.

    Raises:
        UnknownDagError, UnknownRunError, UnknownTaskError: there is none.

    """
    run = str(runs.find(api, dags, dag_id, run_id)["dag_run_id"])
    shown: dict[tuple[str, int], int] = {}
    while True:
        instances = api.task_instances(dag_id, run)
        found = chosen(instances, task, map_index)
        over = api.run_state(dag_id, run) in runs.FINAL if task is None else all(_ended(instance, try_number) for instance in found)
        for instance in found:
            for number in [try_number] if try_number is not None else range(1, instance["try_number"] + 1):
                own = (reasons.name_of(instance), number)
                if shown.get(own, 0) < 0 or (number == instance["try_number"] and instance["start_date"] is None and not over):
                    continue
                lines = _of(api, instance, _try(instance, number))
                yield from lines[shown.get(own, 0) :]
                # What has ended before this look has its whole log.
                shown[own] = -1 if _ended(instance, number) else len(lines)
        if over:
            return
        time.sleep(INTERVAL)


def _ended(instance: Mapping[str, Any], try_number: int | None) -> bool:
    return instance["state"] in runs.ENDED or (try_number is not None and try_number < instance["try_number"])


def _try(instance: Mapping[str, Any], number: int | None) -> int:
    newest = int(instance["try_number"])
    if number is not None and not 1 <= number <= max(newest, 1):
        raise UnknownTaskError(f"{reasons.name_of(instance)} has no try {number}; its newest one is {newest}.")
    return number or newest


def _of(api: AirflowApi, instance: Mapping[str, Any], try_number: int) -> list[Line]:
    if try_number == 0:  # It has not been begun.
        return []
    which = (instance["dag_id"], instance["dag_run_id"], instance["task_id"], try_number, instance["map_index"])
    try:
        items = api.log(*which)
    except AirflowError:  # Removed, or never begun.
        return []
    return [Line(reasons.name_of(instance), try_number, item) for item in items]


def _ranges(indices: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for index in indices:
        if parts and parts[-1][-1] == index - 1:
            parts[-1] = [parts[-1][0], index]
        else:
            parts.append([index])
    return ", ".join("-".join(map(str, part)) for part in parts)
