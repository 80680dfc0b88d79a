"""The workers of a Procfile as a chart counts them: lines that are alike are one set of pods. Data from data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from airflow_celery_lab.configuration import procfile, services
from airflow_celery_lab.configuration.procfile import Line

#: Slots of a worker that does not say how many.
DEFAULT_SLOTS = services.DEFAULT_CONCURRENCY
#: Characters of a set's name: with the release's name and a suffix it has to fit into 63.
LONGEST = 30
#: How often a line may run, at least and at most, by the line's name.
Ranges = Mapping[str, tuple[int, int]]


class Crew(NamedTuple):
    """Workers that are alike."""

    name: str  #: as Kubernetes takes it
    lines: tuple[str, ...]  #: of the Procfile
    queues: tuple[str, ...]
    slots: int  #: of each; of an autoscaled pool the most
    pool: str  #: `most,least` of Celery's own autoscaler of slots, else empty
    least: int  #: pods
    most: int
    dropped: tuple[str, ...]  #: what else the lines say, which does not go along

    @property
    def grows(self) -> bool:
        """Whether the number of pods follows the load."""
        return self.most != self.least


def crews(lines: Iterable[Line], default_queue: str, ranges: Ranges, slots: int = DEFAULT_SLOTS) -> list[Crew]:
    """Return the sets of workers; `slots` are those of a worker that does not say how many."""
    found: dict[tuple[object, ...], list[Crew]] = {}
    for line in lines:
        if line.service.kind == "worker":
            crew = _crew(line, default_queue, ranges.get(line.name, (1, 1)), slots)
            found.setdefault((crew.queues, crew.slots, crew.pool, line.name if crew.grows else ""), []).append(crew)
    taken: set[str] = set()
    return [_together(alike, taken) for alike in found.values()]


def _crew(line: Line, default_queue: str, span: tuple[int, int], slots: int) -> Crew:
    before, after = procfile.around_launcher(line.command)
    # After `airflow celery worker`.
    options = list(services.options(after[3:]))
    pool = next((value for meant, _, value in options if meant == "--autoscale"), "")
    dropped = [word.partition("=")[0] for word in before] + [" ".join(filter(None, words)) for meant, *words in options if not meant]
    return Crew(
        line.name,
        (line.name,),
        line.service.queues or (default_queue,),
        line.service.concurrency or slots,
        pool,
        *span,
        tuple(dropped),
    )


def _together(alike: Sequence[Crew], taken: set[str]) -> Crew:
    first = alike[0]
    return first._replace(
        name=_name(first.name, taken),
        lines=tuple(crew.name for crew in alike),
        least=sum(crew.least for crew in alike),
        most=sum(crew.most for crew in alike),
        dropped=tuple(dict.fromkeys(word for crew in alike for word in crew.dropped)),
    )


def _name(line: str, taken: set[str]) -> str:
    """Return a line's name as Kubernetes takes names: small letters, digits and `-`. The chart puts `worker-` before it."""
    text = re.sub(r"[^a-z0-9]+", "-", line.lower()).strip("-").removeprefix("worker-")[:LONGEST].strip("-") or "worker"
    name, number = text, 1
    while name in taken:
        number += 1
        name = f"{text}-{number}"
    taken.add(name)
    return name
