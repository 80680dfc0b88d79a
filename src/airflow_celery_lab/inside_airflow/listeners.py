"""For how long tasks have waited on queues that no worker listens to. Data and rules; nothing is asked here."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

#: Seconds for which a task may be out of sight without a new beginning: the scheduler takes a task that is
#: queued for long (`[scheduler] task_queued_timeout`) off its queue, and sends it again a moment later.
SIGHT = 15.0

Key = TypeVar("Key", bound=Hashable)


class _Wait(NamedTuple):
    since: float
    seen: float


class Unheard(Generic[Key]):
    """Remembers since when each waiting task has had no listener."""

    def __init__(self, patience: float) -> None:
        """Let tasks wait for `patience` seconds."""
        self._patience = patience
        self._waits: dict[Key, _Wait] = {}

    def observe(self, now: float, waiting: Mapping[Key, str], heard: Collection[str]) -> list[Key]:
        """Take in what waits on which queue, and which queues have a listener; return what has waited too long.

        `now` is seconds on a clock that does not jump.
        """
        for key, queue in waiting.items():
            if queue in heard:
                self._waits.pop(key, None)
            else:
                self._waits[key] = _Wait(self._waits[key].since if key in self._waits else now, now)
        self._waits = {key: wait for key, wait in self._waits.items() if now - wait.seen <= SIGHT}
        return [key for key in waiting if key in self._waits and now - self._waits[key].since >= self._patience]
