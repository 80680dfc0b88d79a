"""How many workers a line should have, given the loads that were seen and how many it has. Data and rules; nothing is asked here.

Up at the next look, as tasks wait. Down only when the load has fitted into fewer workers in all looks of PATIENCE seconds, to
as many as the greatest load of that time needs: a load that comes and goes within it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from airflow_celery_lab.configuration.ranges import Range

#: Seconds; a new worker takes five of them to be ready.
PATIENCE = 30.0


class Load(NamedTuple):
    """What was seen in one look."""

    when: float  #: seconds, on a clock that is never set
    tasks: int  #: that are queued or run


class Decision(NamedTuple):
    """How many workers are wanted, and why."""

    wanted: int
    why: str


def decide(loads: Sequence[Load], current: int, allowed: Range, slots: int) -> Decision:
    """Return how many workers are wanted, of `slots` slots each. `loads` are those of one unbroken time, the newest last."""
    now = loads[-1]
    needed = allowed.bound(workers(now.tasks, slots))
    if needed >= current:
        return Decision(needed, _told(now.tasks, slots) + _bounded(workers(now.tasks, slots), allowed))
    begin = now.when - PATIENCE
    if loads[0].when > begin:  # Nobody has looked for so long yet; but what is beyond the range does not wait.
        lately = _bounded(current, allowed) or f", for {now.when - loads[0].when:.0f} of {PATIENCE:.0f} s"
        return Decision(allowed.bound(current), _told(now.tasks, slots) + lately)
    peak = max(load.tasks for load in loads if load.when >= begin)
    wanted = min(current, allowed.bound(workers(peak, slots)))
    lately = f", and up to {peak} in the last {PATIENCE:.0f} s" if wanted > needed else _bounded(workers(peak, slots), allowed)
    return Decision(wanted, _told(now.tasks, slots) + lately)


def recent(loads: Sequence[Load], new: Load) -> list[Load]:
    """Return the loads with a new one, without those that `decide` needs no more."""
    begin = new.when - PATIENCE
    kept = [load for load in loads if load.when > begin]
    # One that is older tells that somebody has looked for as long.
    before = [load for load in loads if load.when <= begin][-1:]
    return [*before, *kept, new]


def workers(tasks: int, slots: int) -> int:
    """Return how many workers of `slots` slots take so many tasks at once."""
    return -(-tasks // slots)


def _told(tasks: int, slots: int) -> str:
    return f"{tasks or 'no'} task{'' if tasks == 1 else 's'} on {slots} slot{'' if slots == 1 else 's'} a worker"


def _bounded(needed: int, allowed: Range) -> str:
    """Return what of a range makes it another number than that which the load needs."""
    if needed > allowed.most:
        return f", and {allowed.most} at most"
    return f", and {allowed.least} at least" if needed < allowed.least else ""
