"""How the links of a lab are, as far as the lab can know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from airflow_celery_lab.configuration import links
from airflow_celery_lab.configuration.links import Condition, Links
from airflow_celery_lab.configuration.state import State
from airflow_celery_lab.launcher.registry import Record


class LinkStatus(NamedTuple):
    """One link, as it is."""

    server: str
    delay: float  #: seconds that an answer takes longer
    cut: bool
    condition: str  #: in words


def look(found: Links) -> list[LinkStatus]:
    """Return how each link is, where workers go through them or one is not clean."""
    return [_status(server, found.condition(server)) for server in links.SERVERS] if found.on or found.conditions else []


def is_held(state: State, records: Mapping[str, Record]) -> bool:
    """Return whether the process that carries the links has taken in how they are."""
    record = records.get(links.PROCESS)
    try:
        held = json.loads(state.links_held.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    # One that was killed leaves the file to its successor.
    return record is not None and held["pid"] == record.main_pid and links.parse(held["links"]).conditions == links.read(state).conditions


def astray(records: Mapping[str, Record], found: Links) -> list[str]:
    """Return the workers that should go through links and do not, or the other way round."""
    return [name for name, record in records.items() if record.queues and record.linked != found.on]


def _status(server: str, condition: Condition) -> LinkStatus:
    return LinkStatus(server, round(2 * condition.delay, 6), condition.cut, condition.text)
