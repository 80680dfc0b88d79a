"""How often a worker's line may run: `worker-default=1..6`, as `autoscale` takes it in a terminal and in the Procfile."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from airflow_celery_lab.configuration.suggestion import suggest
from airflow_celery_lab.errors import ProcfileError

#: More workers of one line than a machine can bear; a bound for typing errors.
MOST = 99
SHAPE = "NAME=LEAST..MOST"
RANGE = re.compile(r"([A-Za-z0-9_-]+)=([0-9]{1,9})\.\.([0-9]{1,9})")
#: Two numbers with something else between them, or one number: what people write who mean a range.
MEANT = re.compile(r"([A-Za-z0-9_-]+)[=:]([0-9]{1,2})(?:\D{1,3}([0-9]{1,2}))?")


class Range(NamedTuple):
    """How often a line of the Procfile may run."""

    line: str
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}..{self.most}"

    def bound(self, count: int) -> int:
        """Return the number of the range that is nearest to `count`."""
        return min(max(count, self.least), self.most)


def parse(texts: Sequence[str]) -> tuple[Range, ...]:
    """Return the ranges that `texts` name.

    Raises:
        ProcfileError: there is none, one of them makes no sense, or a line stands twice.

    """
    if not texts:
        raise ProcfileError(
            f"`autoscale` needs a worker's line of the Procfile and its range, {SHAPE}; write for example worker-default=1..6."
        )
    found: dict[str, Range] = {}
    for one in map(_range, texts):
        if one.line in found:
            raise ProcfileError(f"`autoscale` names {one.line} twice; give it one range.", process=one.line)
        found[one.line] = one
    return tuple(found.values())


def text(one: Range) -> str:
    """Return a range as `parse` reads it."""
    return f"{one.line}={one}"


def require_workers(wanted: Iterable[Range], workers: Collection[str], others: Collection[str]) -> None:
    """Do nothing when all of `wanted` name `workers`, which are lines of the Procfile, as `others` are.

    Raises:
        ProcfileError: one names something else.

    """
    for one in wanted:
        if one.line in workers:
            continue
        hint = suggest(one.line, workers, f"the workers are {', '.join(workers) or 'none'}.")
        what = "is no worker, and nothing else can be autoscaled" if one.line in others else "is no line of the Procfile"
        raise ProcfileError(f"{one.line} {what}; {hint}", process=one.line)


def _range(text: str) -> Range:
    match = RANGE.fullmatch(text)
    if match is None:
        meant = MEANT.fullmatch(text)
        numbers = sorted(int(number) for number in (meant[2], meant[3] or meant[2])) if meant else []
        hint = f"did you mean {meant[1]}={numbers[0]}..{numbers[1]}?" if meant and numbers[1] else "write for example worker-default=1..6."
        raise ProcfileError(f"{text!r} is not {SHAPE}; {hint}")
    found = Range(match[1], int(match[2]), int(match[3]))
    if found.most > MOST:
        raise ProcfileError(f"{text!r} is more than {MOST} workers; write a range that ends at {MOST} or below.", process=found.line)
    if found.least > found.most:
        raise ProcfileError(f"{text!r} ends before it begins; did you mean {found.line}={found.most}..{found.least}?", process=found.line)
    if not found.most:
        raise ProcfileError(f"{text!r} never runs a worker; did you mean {found.line}=0..1?", process=found.line)
    return found
