"""How long the scheduler sleeps between two rounds of its loop. Data and rules.

Airflow sleeps after a round that has sent no task and heard of no task's end, for `[scheduler] scheduler_idle_sleep_time`, and nothing
ends that. The executor sleeps before it, and can be woken.
"""

from __future__ import annotations

from typing import NamedTuple

#: Where a user's own setting stands.
VARIABLE = "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"
#: Seconds from round to round while the next task can begin at once.
PACE = 0.25
#: The same, at most, while there is no hurry; Airflow's own default.
IDLE = 1.0
#: The same while there is nothing to do at all, and for how long that has to last before. A scheduler that has just been started sends its
#: first heartbeats meanwhile.
REST, CALM = 4.0, 10.0
#: Seconds between two questions meanwhile whether there is something to do; one costs 0.2 ms of CPU, a round 20.
LOOK = 0.08


class Pauses(NamedTuple):
    """Seconds that the executor sleeps before Airflow does."""

    pace: float
    idle: float
    rest: float


def before(own: float, *, users: bool) -> Pauses:
    """Return the pauses before Airflow's `own` one, which is the whole pace where it is the user's choice.

    Without hurry the scheduler sleeps four times as long as with it, up to IDLE.
    """
    pace = own if users else PACE
    idle = max(0.0, min(4 * pace, IDLE) - own)
    return Pauses(max(0.0, pace - own), idle, max(0.0, REST - own) if idle else 0.0)
